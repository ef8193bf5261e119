"""The fuzzer itself, and a few of its cases: ``make fuzz`` runs them by the hundred thousand."""

from __future__ import annotations

import json

import pytest

from fuzz import __main__ as command
from fuzz import cases, running
from fuzz.cases import Case, CaseError, run_case
from fuzz.corpus import load_corpus
from fuzz.running import case_of, run
from pixel_llm.errors import Place, PolicyError, Problem
from pixel_llm.policy.settings import Section

CORPUS = load_corpus()


class TestRun:
    def test_smoke(self):
        """
        Whatever happened to a policy, it loads or is a PolicyError that says where and why.
        """
        tally = run(count=2000, seed=20)

        assert {} == tally.failures
        assert 2000 == tally.count
        assert tally.accepted > 100
        assert tally.rejected > 100

    def test_ends_when_the_time_is_up(self):
        """
        A bounded run does what it can, and says how much that was.
        """
        tally = run(count=10**9, seconds=0.2)

        assert 0 < tally.count < 10**6
        assert tally.summary(1).startswith(f"{tally.count} cases, {tally.accepted} accepted, ")

    def test_ends_when_there_is_enough_to_look_at(self, monkeypatch):
        """
        Failures are collected with their tracebacks, up to ten.
        """

        def fail(case):
            raise KeyError("crash")

        monkeypatch.setattr(running, "run_case", fail)
        tally = run(count=2000)

        assert list(range(10)) == list(tally.failures)
        assert all("KeyError: 'crash'" in traceback for _, traceback in tally.failures.values())


class TestCaseOf:
    def test_depends_on_seed_and_number_alone(self):
        """
        The same seed makes the same cases, in any process and any order; another one makes others.
        """
        again = load_corpus()
        cases = [case_of(3, number, CORPUS) for number in range(50)]

        assert cases == [case_of(3, number, again) for number in reversed(range(50))][::-1]
        assert 45 < len({case_of(seed, 7, CORPUS).policy for seed in range(50)})

    def test_comes_back_from_a_file(self):
        """
        A saved case is the same case, whatever bytes it holds.
        """
        for case in [Case(bytes(range(256)), b"\xff\x00"), *(case_of(4, number, CORPUS) for number in range(100))]:
            assert case == Case.from_json(case.to_json())


class TestRunCase:
    def test_accepted_and_rejected(self):
        """
        A right policy is accepted, a wrong one rejected, and an overlay can make the difference.
        """
        assert run_case(Case(b"version: 1\nextends: basic\n"))
        assert not run_case(Case(b"version: 2\n"))
        assert not run_case(Case(b"version: 1\n", b"version: 2\n"))

    @pytest.mark.parametrize(
        ("problems", "message"),
        [
            ([], "a refusal without a problem"),
            ([Problem(Place(""), "", "x")], "a problem without a place"),
            ([Problem(Place("p"), "", "")], "a problem without a place"),
            ([Problem(Place("p"), "", f"got {cases.SECRET}")], "a problem that shows a secret"),
        ],
    )
    def test_a_refusal_must_say_where_and_why(self, monkeypatch, problems, message):
        """
        A PolicyError that does not help is a failure too.
        """

        def refuse(*_, **__):
            raise PolicyError(problems)

        monkeypatch.setattr(cases, "load_from", refuse)
        with pytest.raises(CaseError, match=message):
            run_case(Case(b"version: 1\n"))

    def test_what_is_accepted_must_be_whole(self, monkeypatch):
        """
        A policy that was accepted has bounds and can be written down again; anything else is a failure.
        """
        monkeypatch.setattr(Section, "thaw", lambda *_: {"version": 1})
        with pytest.raises(CaseError, match="a policy that does not come back"):
            run_case(Case(b"version: 1\ndescription: lost\n"))

    def test_what_takes_too_long_is_a_failure(self, monkeypatch):
        """
        A case that takes more than two seconds of the processor is one to look at.
        """
        monkeypatch.setattr(running, "MAX_SECONDS", -1.0)
        tally = run(count=1)

        assert "a case that takes" in tally.failures[0][1]


class TestCommand:
    def test_prints_one_line(self, monkeypatch, capsys):
        """
        A run that found nothing is one line, with what is needed to run it again.
        """
        monkeypatch.setattr("sys.argv", ["fuzz", "--count", "50", "--seed", "6"])

        assert 0 == command.main()
        assert capsys.readouterr().out.startswith("50 cases, ")

    def test_saves_what_failed(self, monkeypatch, capsys, tmp_path):
        """
        A case that failed is written to a file, and the command says how to run it again.
        """

        def fail(case):
            raise KeyError("crash")

        monkeypatch.setattr(running, "run_case", fail)
        monkeypatch.setattr("sys.argv", ["fuzz", "--count", "1", "--seed", "6", "--save", str(tmp_path / "new")])

        assert 1 == command.main()
        file = tmp_path / "new" / "6-0.json"
        assert {"policy", "overlay", "variables"} == set(json.loads(file.read_text()))
        assert f"Again: python -m fuzz --rerun {file}" in capsys.readouterr().err

    def test_runs_a_saved_case_again(self, monkeypatch, capsys, tmp_path):
        """
        A saved case is run by itself, without catching what it raises.
        """
        file = tmp_path / "case.json"
        file.write_text(Case(b"version: 1\n").to_json())
        monkeypatch.setattr("sys.argv", ["fuzz", "--rerun", str(file)])

        assert 0 == command.main()
        assert "accepted\n" == capsys.readouterr().out
