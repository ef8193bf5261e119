"""What ``pixel-llm policy validate`` reports, in each format."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command import policy

from pixel_llm.policy.lint import RULES

#: An error that is none, a warning and a note.
DOUBTFUL = "version: 1\ntargets:\n  lm_studio.chat: {deadline: 5s, timeout: 10s}\n"
FINE = "version: 1\ndescription: Nothing is wrong with it.\n"
WRONG = "version: 1\nextends: basic\nlogging: {level: loud, consle: true}\ntargets: {lm_studio.chta: {}}\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "doubtful.yaml").write_text(DOUBTFUL)
    (tmp_path / "wrong.yaml").write_text(WRONG)
    return tmp_path


class TestText:
    def test_lines(self, files):
        """A line a problem, in the order of their places, and a count."""
        done = policy("validate", "doubtful.yaml", "wrong.yaml", cwd=files)
        *problems, last = done.stdout.splitlines()

        assert (1, "") == (done.returncode, done.stderr)
        assert [line.split(":")[0] for line in problems] == sorted(line.split(":")[0] for line in problems)
        assert (
            "wrong.yaml:3:18: logging.level: must be DEBUG, INFO, WARNING, ERROR or CRITICAL (got 'loud')" in problems
        )
        assert re.search(r"^doubtful\.yaml:3:\d+: targets.*: warning: .* \[PL101\]$", done.stdout, re.MULTILINE)
        assert re.fullmatch(r"2 policies: 3 errors, \d+ warnings?(, \d+ notes?)?", last)

    def test_strict(self, files):
        """Warnings fail with --strict only."""
        assert 0 == policy("validate", "doubtful.yaml", cwd=files).returncode
        assert 1 == policy("validate", "--strict", "doubtful.yaml", cwd=files).returncode

    def test_standard_input(self, files):
        """Standard input is <stdin>; it may extend the working directory's policies, and ignore findings."""
        (files / "policies").mkdir()
        (files / "policies" / "ours.yaml").write_text("version: 1\nlogging: {level: ERROR}\n")
        wrong = policy("validate", "-", cwd=files, stdin="version: 1\nlogging: {level: INFO, wrong: 1}\n")
        text = "version: 1\ndescription: Piped.\nextends: ours\ntargets:\n  # pixel-llm: ignore PL101 -- the test\n"
        good = policy("validate", "--strict", "-", cwd=files, stdin=f"{text}  a.b: {{deadline: 5s, timeout: 10s}}\n")
        unread = policy("validate", "-", cwd=files, stdin="version: 1\nextends: nothing\n")

        known = "level, levels, file, rotation, console, format, sampling, queue_size or log_content"
        assert f"<stdin>:2:24: logging.wrong: unknown key 'wrong'; known here: {known}" in wrong.stdout
        assert (0, "1 policy: no problems\n") == (good.returncode, good.stdout)
        assert "<stdin>:2:10: extends: there is no profile 'nothing'; there are " in unread.stdout
        assert "ours" in unread.stdout

    def test_standard_input_beside_files(self, files):
        """It may stand beside files, and what stands twice is checked once."""
        done = policy("validate", "-", "doubtful.yaml", "-", "doubtful.yaml", cwd=files, stdin="version: 1\n")

        assert done.stdout.splitlines()[-1].startswith("2 policies: ")

    def test_overlays(self, files):
        """What is laid over the policy is checked with it."""
        (files / "over.yaml").write_text("version: 1\ntargets: {lm_studio.chat: {deadline: 50s}}\n")
        (files / "bad.yaml").write_text("version: 1\nlogging: {level: loud}\n")

        assert "PL101" not in policy("validate", "doubtful.yaml", "--overlay", "over.yaml", cwd=files).stdout
        done = policy("validate", "doubtful.yaml", "--overlay", "bad.yaml", cwd=files)
        assert (1, True) == (done.returncode, done.stdout.startswith("bad.yaml:2:18: logging.level: must be "))

    def test_env_file(self, files):
        """Variables come from the file; what is wrong in it is a problem with its place."""
        (files / "variable.yaml").write_text("version: 1\nlm_studio: {model: '${MODEL}'}\n")
        (files / "ci.env").write_text("MODEL=m\n")
        (files / "bad.env").write_text("MODEL=m\nnot a variable\n")

        assert 1 == policy("validate", "variable.yaml", cwd=files).returncode
        assert 0 == policy("validate", "--env-file", "ci.env", "variable.yaml", cwd=files).returncode
        bad = policy("validate", "--env-file", "bad.env", "variable.yaml", cwd=files)
        assert (1, "", "bad.env:2:1: must be NAME=VALUE\n") == (bad.returncode, bad.stdout, bad.stderr)

    def test_secrets(self, files):
        """A key that is wrong is not repeated."""
        (files / "key.yaml").write_text("version: 1\nlm_studio: {api_key: ['sk-secret'], base_url: '${A_KEY}'}\n")
        done = policy("validate", "key.yaml", cwd=files, A_KEY="sk-other")

        assert 1 == done.returncode
        assert "sk-" not in done.stdout + done.stderr

    @pytest.mark.parametrize(
        "words", [["--format", "xml"], ["--profile", "a", "b", "c"], ["--rate", "1"], ["--overlay"], ["--strickt"]]
    )
    def test_wrong_usage(self, files, words):
        """What is not understood is wrong usage: exit 2."""
        assert 2 == policy("validate", *words, cwd=files).returncode


class TestJson:
    def test_object(self, files):
        """One object; a problem has its place as numbers, its rule and its severity."""
        done = json.loads(policy("validate", "--format", "json", "doubtful.yaml", "wrong.yaml", cwd=files).stdout)

        assert ["doubtful.yaml", "wrong.yaml"] == done["files"]
        assert {
            "file": "wrong.yaml",
            "line": 3,
            "column": 18,
            "path": "logging.level",
            "message": "must be DEBUG, INFO, WARNING, ERROR or CRITICAL (got 'loud')",
            "rule": "PL003",
            "severity": "error",
        } in done["problems"]
        assert {"error", "warning"} <= {problem["severity"] for problem in done["problems"]}

    @pytest.mark.parametrize("words", [["empty"], ["--profile", "nope"], ["--env-file", "nope.env"]])
    @pytest.mark.parametrize("style", ["json", "github", "sarif"])
    def test_what_keeps_it_from_checking(self, files, style, words):
        """Programs hear in the report, too, why nothing was checked."""
        (files / "empty").mkdir()
        done = policy("validate", "--format", style, *words, cwd=files)

        assert (1, "") == (done.returncode, done.stderr)
        assert "PL001" in done.stdout or "PL005" in done.stdout


class TestGithub:
    def test_annotations(self, files):
        """A workflow command a problem, with what would end it escaped; nothing where nothing is wrong."""
        done = policy("validate", "--format", "github", "doubtful.yaml", "wrong.yaml", cwd=files)
        (files / "policies").mkdir()
        (files / "policies" / "a,b:50%.yaml").write_text("version: 2\n")
        odd = policy("validate", "--format", "github", "policies/a,b:50%.yaml", cwd=files)
        good = policy("validate", "--format", "github", "-", cwd=files, stdin=FINE)

        pattern = r"::(error|warning|notice) file=\w+\.yaml,title=pixel-llm PL\d{3},line=\d+,col=\d+::.+"
        assert all(re.fullmatch(pattern, line) for line in done.stdout.splitlines())
        assert "::error file=policies/a%2Cb%3A50%25.yaml,title=pixel-llm PL003,line=1,col=10::" in odd.stdout
        assert (0, "") == (good.returncode, good.stdout)

    def test_files_by_their_whole_path(self, files):
        """GitHub knows files by their place in the repository."""
        done = policy("validate", "--format", "github", str(files / "wrong.yaml"), cwd=files)

        assert all(" file=wrong.yaml," in line for line in done.stdout.splitlines())


def check_sarif(log: Any) -> None:
    """What SARIF 2.1.0 (OASIS, section 3) requires of the parts that are used here."""
    assert "2.1.0" == log["version"]  # 3.13.2
    assert "sarif-2.1.0" in log["$schema"]
    assert set(log) <= {"$schema", "version", "runs"}
    for run in log["runs"]:  # 3.14
        assert {"tool", "results", "columnKind"} == set(run)
        assert run["columnKind"] in ("utf16CodeUnits", "unicodeCodePoints")  # 3.14.17
        driver = run["tool"]["driver"]  # 3.18.2, 3.19
        assert driver["name"]
        assert driver["version"]
        rules = driver["rules"]
        assert len(rules) == len({rule["id"] for rule in rules})
        for rule in rules:  # 3.49
            assert {"id", "shortDescription", "fullDescription", "help", "defaultConfiguration"} == set(rule)
            assert all(rule[key]["text"] for key in ("shortDescription", "fullDescription", "help"))
            assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")  # 3.50.3
        for result in run["results"]:  # 3.27
            assert {"ruleId", "ruleIndex", "level", "message", "locations", "partialFingerprints"} == set(result)
            assert rules[result["ruleIndex"]]["id"] == result["ruleId"]  # 3.27.6
            assert result["level"] in ("none", "note", "warning", "error")  # 3.27.10
            assert result["message"]["text"]  # 3.11.8
            (location,) = result["locations"]  # 3.28
            artifact = location["physicalLocation"]["artifactLocation"]  # 3.29.3
            assert re.fullmatch(r"[A-Za-z0-9%._~/:@!$&'()*+,;=-]+", artifact["uri"])  # RFC 3986
            assert ("uriBaseId" in artifact) is not artifact["uri"].startswith("file:")  # 3.4.4
            region = location["physicalLocation"].get("region")
            assert region is None or (region["startLine"] >= 1 and region["startColumn"] >= 1)  # 3.30.5, 3.30.6
            assert all(isinstance(value, str) and value for value in result["partialFingerprints"].values())  # 3.27.17
        fingerprints = [json.dumps(result["partialFingerprints"]) for result in run["results"]]
        assert len(fingerprints) == len(set(fingerprints))


def sarif(*words: str, cwd: Path, stdin: str = "") -> list[Any]:
    """The results, of a log that is as it must be."""
    log = json.loads(policy("validate", "--format", "sarif", *words, cwd=cwd, stdin=stdin).stdout)
    check_sarif(log)
    return list(log["runs"][0]["results"])


class TestSarif:
    def test_log(self, files):
        """Every rule, every result with its rule, its level and its place."""
        results = sarif("doubtful.yaml", "wrong.yaml", cwd=files)

        (level,) = [result for result in results if "logging.level" in result["message"]["text"]]
        assert ("PL003", "error") == (level["ruleId"], level["level"])
        place = level["locations"][0]["physicalLocation"]
        assert {"uri": "wrong.yaml", "uriBaseId": "%SRCROOT%"} == place["artifactLocation"]
        assert {"startLine": 3, "startColumn": 18} == place["region"]
        assert "warning" in {result["level"] for result in results if result["ruleId"] == "PL101"}

    def test_no_results(self, files):
        """Where nothing is wrong there is a log all the same."""
        assert [] == sarif("-", cwd=files, stdin=FINE)

    def test_knows_every_rule(self, files):
        """The rules of the log are those of the catalogue."""
        log = json.loads(policy("validate", "--format", "sarif", "-", cwd=files, stdin="version: 1\n").stdout)

        assert [rule.id for rule in RULES] == [rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]]

    def test_fingerprints_survive(self, files):
        """They stay the same when lines are inserted above, wherever the file is named from."""
        twice = "version: 1\ntargets: {a.b: {deadline: yes, deadline: 1, fallback: []}, c.d: {deadline: yes}}\n"
        (files / "twice.yaml").write_text(twice)
        before = [result["partialFingerprints"] for result in sarif("wrong.yaml", "twice.yaml", cwd=files)]
        (files / "wrong.yaml").write_text(f"# One line\n\n# more.\n{WRONG}")
        (files / "twice.yaml").write_text(f"# One line\n\n# more.\n{twice}")
        after = [result["partialFingerprints"] for result in sarif("wrong.yaml", "twice.yaml", cwd=files)]
        whole = sarif(str(files / "wrong.yaml"), str(files / "twice.yaml"), cwd=files)

        assert len(before) >= 5
        assert before == after
        assert before == [result["partialFingerprints"] for result in whole]

    def test_places_that_are_no_files(self, tmp_path):
        """Files with difficult names, standard input, and what concerns a whole file have a place too."""
        (tmp_path / "a b#ü%.yaml").write_text("version: 2\n")
        (tmp_path / "away").mkdir()
        results = sarif("a b#ü%.yaml", "missing.yaml", "-", cwd=tmp_path, stdin="version: 3\n")
        outside = sarif(str(tmp_path / "a b#ü%.yaml"), cwd=tmp_path / "away")

        uris = [result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in results]
        assert ["%3Cstdin%3E", "a%20b%23%C3%BC%25.yaml", "missing.yaml"] == uris
        assert outside[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].startswith("file:///")


class TestImports:
    @pytest.mark.parametrize(
        "words",
        [
            ["validate", "doubtful.yaml", "wrong.yaml"],
            ["validate", "--format", "sarif", "wrong.yaml"],
            ["show", "production"],
            ["explain", "production"],
            ["diff", "basic", "production"],
            ["schema"],
            ["list"],
            ["--help"],
        ],
    )
    def test_load_only_what_they_need(self, files, words):
        """No command about policies loads torch or httpx, or what the stacks are made of; rich only list does."""
        program = (
            "import sys\nfrom pixel_llm.cli import main\nsys.argv = ['pixel-llm', 'policy', *sys.argv[1:]]\n"
            "try:\n    main()\nfinally:\n"
            "    found = {name.partition('.')[0] for name in sys.modules}\n"
            "    print(*sorted(found & {'torch', 'httpx', 'httpcore', 'PIL', 'numpy', 'tenacity', 'pybreaker', "
            "'structlog', 'rich'}), file=sys.stderr)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, *words], cwd=files, capture_output=True, text=True, check=False
        )

        assert ("rich" if words == ["list"] else "") == done.stderr.strip()
