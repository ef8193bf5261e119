from __future__ import annotations

import os
from pathlib import Path

import pytest

from pixel_llm.errors import Place, Problem, ProblemSeverity
from pixel_llm.policy.checking import CheckReport, check_files

#: Breaks the rule about timeouts that are longer than their deadline.
WARNED = "targets: {lm_studio.chat: {deadline: 5s, timeout: 10s}}"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PIXEL_LLM_OVERLAYS", raising=False)
    return tmp_path


def write(name: str, text: str) -> Path:
    Path(name).write_text(f"version: 1\ndescription: Of the tests.\n{text}\n")
    return Path(name)


def found(report: CheckReport, rule: str) -> list[str]:
    """The places where *rule* was found."""
    return [str(problem.place) for problem in report.problems if problem.rule == rule]


class TestCheckFiles:
    def test_of_nothing(self):
        """
        Where there is nothing to check, there is nothing wrong.
        """
        assert CheckReport((), ()) == check_files([])

    def test_all_files(self):
        """
        Errors and what looks like a mistake are told together, in the order of their places.
        """
        files = [write("b.yaml", WARNED), write("a.yaml", "colour: red"), Path("none.yaml")]
        report = check_files(files, variables={})

        assert tuple(files) == report.files
        assert sorted(report.problems) == list(report.problems)
        assert (["a.yaml:3:1"], ["none.yaml"], ["b.yaml:3:51"]) == (
            found(report, "PL003"),
            found(report, "PL001"),
            found(report, "PL101"),
        )

    def test_what_is_wrong_is_not_linted(self):
        """
        An error hides what only looks like a mistake: the policy never starts.
        """
        report = check_files([write("a.yaml", f"{WARNED}\nextends: nobody")], variables={})

        assert ["PL004"] == [problem.rule for problem in report.problems]

    def test_what_several_files_extend_is_told_once(self):
        """
        A mistake in a parent is one mistake, however many children it has.
        """
        files = [write("parent.yaml", WARNED), *(write(f"{name}.yaml", "extends: parent") for name in ("one", "two"))]
        report = check_files(files, variables={})

        assert ["parent.yaml:3:51"] == found(report, "PL101")

    def test_with_overlays(self):
        """
        Every file is checked with the overlays, or with those of the variable.
        """
        files = [write("a.yaml", "targets: {lm_studio.chat: {timeout: 10s}}")]
        overlay = write("o.yaml", "targets: {lm_studio.chat: {deadline: 5s}}")
        variables = {"PIXEL_LLM_OVERLAYS": str(overlay)}

        assert [] == found(check_files(files, variables={}), "PL101")
        assert 1 == len(found(check_files(files, overlays=iter([overlay]), variables={}), "PL101"))
        assert 1 == len(found(check_files(files, variables=variables), "PL101"))
        assert [] == found(check_files(files, overlays=[], variables=variables), "PL101")

    def test_overlays_hold_for_every_file(self):
        """
        Overlays that can be gone through only once are laid over the second file too.
        """
        files = [write(f"{name}.yaml", "targets: {mail: {deadline: 9s}}") for name in "ab"]
        report = check_files(files, overlays=iter([write("o.yaml", "colour: red")]), variables={})

        assert ["o.yaml:3:1"] == found(report, "PL003")

    def test_with_variables(self, monkeypatch):
        """
        Variables that are given stand for the environment.
        """
        files = [write("a.yaml", "lm_studio: {model: '${MODEL_OF_THE_TESTS}'}")]
        monkeypatch.setitem(os.environ, "MODEL_OF_THE_TESTS", "x")

        assert [] == found(check_files(files), "PL005")
        assert ["a.yaml:3:20"] == found(check_files(files, variables={}), "PL005")

    def test_what_is_given(self):
        """
        Bytes that are given stand for a file's text, whether it is there or not; other files are read.
        """
        other = write("other.yaml", "targets: {lm_studio.chat: {deadline: 5s}}")
        given = b"version: 1\nextends: other\ntargets: {lm_studio.chat: {timeout: 10s}}\n"
        report = check_files([Path("-"), other], variables={}, given={Path("-"): given})

        assert ["-:3:37"] == found(report, "PL101")


class TestCheckReport:
    @staticmethod
    def report(*severities: ProblemSeverity) -> CheckReport:
        return CheckReport((), tuple(Problem(Place("a"), "", "x", "PL999", severity) for severity in severities))

    @pytest.mark.parametrize(
        ("severity", "fails", "fails_strictly"),
        [
            (ProblemSeverity.ERROR, True, True),
            (ProblemSeverity.WARNING, False, True),
            (ProblemSeverity.NOTE, False, False),
        ],
    )
    def test_fails(self, severity, fails, fails_strictly):
        """
        Errors fail, warnings only where one is strict, notes never.
        """
        report = self.report(ProblemSeverity.NOTE, severity)

        assert (fails, fails_strictly) == (report.fails(), report.fails(strict=True))

    def test_count(self):
        """
        Problems are counted by how bad they are.
        """
        report = self.report(ProblemSeverity.NOTE, ProblemSeverity.ERROR, ProblemSeverity.NOTE)

        assert [1, 0, 2] == [report.count(severity) for severity in ProblemSeverity]
