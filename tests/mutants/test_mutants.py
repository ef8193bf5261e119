"""Mutation testing, tried on a project of a few lines. ``make mutants`` runs it on this one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("mutmut", reason="make mutants installs it")

from mutants import __main__ as command
from mutants.making import Mutant, Mutations, files, sample
from mutants.mapping import Mapping
from mutants.running import Result
from mutants.survivors import Survivors

ROOT = Path(__file__).parents[2]

CODE = '''
"""A module."""

LIMIT = 3


def is_small(number: int) -> bool:
    """Whether it is."""
    return number < LIMIT


class Box:
    @property
    def size(self) -> int:
        return 1 + 1


def unused() -> int:
    return 5
'''

PYTEST = """
[tool.pytest.ini_options]
testpaths = ["tests"]
addopts = "-p yaml"
filterwarnings = ["error"]
"""

TEST = """
import os
from pixel_llm.policy.numbers import Box, is_small, unused

tries = []


def test_small():
    assert is_small(2)
    assert not is_small(3)


def test_box():
    assert Box().size > 1


def test_fails_now_and_then():
    unused()
    tries.append(1)
    assert len(tries) > 1 or "PYTEST_DISABLE_PLUGIN_AUTOLOAD" not in os.environ  # set where mutants are tested
"""


@pytest.fixture
def project(tmp_path):
    """A checkout with one module and three tests: one is weak, and one fails the first time that a process runs it."""
    written = {
        "pixel_llm/__init__.py": "",
        "pixel_llm/policy/__init__.py": "",
        "pixel_llm/policy/numbers.py": CODE,
        "tests/policy/test_numbers.py": TEST,
        "pyproject.toml": PYTEST,
        ".gitignore": ".mutants/\n__pycache__/\n",
    }
    for name, text in written.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def mutant(before="a", after="b", **changed):
    fields = {"file": "pixel_llm/policy/x.py", "line": 3, "last_line": 3, "number": 0, "place": "f", "digest": "d"}
    return Mutant(**fields | changed, before=before, after=after)


class TestCommand:
    def test_on_a_small_project(self, project):
        """
        What tests notice is killed, what they don't survives, and a second run finds nothing left to do. A change of
        the checkout makes all of it count for nothing, or with an option, what has survived.
        """

        def run(*words):
            ended = subprocess.run(
                [sys.executable, "-m", "mutants", *words], cwd=project, env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            return ended.returncode, ended.stdout + ended.stderr

        status, shown = run("--sample", "100", "--jobs", "1")

        assert 1 == status, shown
        alive = [line for line in shown.partition("\n\n")[2].splitlines() if line.startswith("survived")]
        assert re.fullmatch(r"seed 1, (\d+) of \1 mutants: .*; score \d\d\.\d% .*", shown.splitlines()[-1])
        assert "survived pixel_llm/policy/numbers.py:15 Box.size" in shown
        assert (
            "  - return 1 + 1\n  + return 1 + 2\n  no reason is given: | `pixel_llm/policy/numbers.py Box.size` |"
            in shown
        )
        assert "survived pixel_llm/policy/numbers.py:19 unused" in shown
        assert "numbers.py:9 is_small" not in shown.partition("\n\n")[2]

        status, again = run("--sample", "100", "--jobs", "1")

        assert "; 0 to run\n" in again
        assert shown.splitlines()[-1] == again.splitlines()[-1]

        (project / "tests/policy/test_numbers.py").write_text(
            TEST.replace("Box().size > 1", "Box().size == 2").replace("    unused()", "    assert unused() == 5")
        )
        status, better = run("--sample", "100", "--jobs", "1", "--keep-kills")

        assert 0 == status, better
        assert f"; {len(alive)} to run\n" in better
        assert "0 survived" in better.splitlines()[-1]

        (project / "tests/policy/test_numbers.py").write_text(TEST + "    # changed\n")

        assert "; 2 to run\n" in run("--sample", "2", "--jobs", "1")[1]


ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}


class TestMutations:
    def test_change_one_place(self, project):
        """
        Decorated functions are changed too; annotations and docstrings are not.
        """
        mutations = Mutations(project, "pixel_llm/policy/numbers.py")
        made = [mutations.make(number) for number in range(len(mutations))]

        assert {("return number < LIMIT", "return number <= LIMIT"), ("return 1 + 1", "return 1 - 1")} <= {
            (one.before, one.after) for one, _ in made
        }
        assert all(text != CODE for _, text in made)
        assert {"", "is_small", "Box.size", "unused"} == {one.place for one, _ in made}
        assert not any("Whether" in one.before or "->" in one.before for one, _ in made)

    def test_are_drawn_by_the_seed(self, project):
        """
        The same seed draws the same ones, and no more than there are.
        """
        names = [[one.name for one, _ in sample(project, seed, 4)[0]] for seed in (1, 1, 2)]

        assert names[0] == names[1] != names[2]
        assert 4 == len(set(names[0]))
        drawn, rooms = sample(project, 1, 10_000)
        assert {"pixel_llm/policy": len(drawn)} == rooms

    def test_of_this_project(self):
        """
        Both rooms are there, and what is drawn from them compiles.
        """
        found = files(ROOT)

        assert {"policy", "resilience"} == {file.split("/")[1] for file in found}
        for file in Random(5).sample(found, 3):
            mutations = Mutations(ROOT, file)
            for number in range(0, len(mutations), max(1, len(mutations) // 3)):
                compile(mutations.make(number)[1], file, "exec")


class TestMapping:
    MAPPING = Mapping(
        reached={"pixel_llm/policy/x.py": {3: {"t.py::slow", "t.py::fast"}, 9: {"t.py::nine"}}},
        entered={"pixel_llm/policy/x.py": {"t.py::slow", "t.py::fast", "t.py::nine"}},
        imported={"pixel_llm/policy/x.py": {9}},
        seconds={"t.py::slow": 3.0, "t.py::fast": 0.1, "t.py::nine": 1.0, "test_schema.py::all": 0.5},
    )

    def test_gives_those_that_reach_it(self):
        """
        The fastest come first.
        """
        assert ["t.py::fast", "t.py::slow"] == self.MAPPING.tests_for(mutant())

    @pytest.mark.parametrize("changed", [{"place": ""}, {"line": 9, "last_line": 9}, {"line": 77, "last_line": 77}])
    def test_what_runs_at_import_is_everybodys(self, changed):
        """
        So is what no test has been seen to reach. First come the tests that look at everything.
        """
        tests = self.MAPPING.tests_for(mutant(**changed))

        assert ["test_schema.py::all", "t.py::fast", "t.py::nine", "t.py::slow"] == tests

    def test_a_constant_is_noticed_where_it_is_named(self, tmp_path):
        """
        Who reads a constant in another module notices its change, though no function of its own module runs.
        """
        room = tmp_path / "pixel_llm/policy"
        room.mkdir(parents=True)
        (room / "x.py").write_text("MOST = 3\nMOSTLY = 4\n")
        (room / "y.py").write_text("def f():\n    return MOSTLY\n\ndef g():\n    return MOST\n")
        mapping = Mapping(
            reached={"pixel_llm/policy/x.py": {}, "pixel_llm/policy/y.py": {2: {"t.py::f"}, 5: {"t.py::g"}}},
            entered={},
            imported={"pixel_llm/policy/x.py": {1, 2}},
            seconds={"t.py::f": 0.1, "t.py::g": 0.1},
            root=tmp_path,
        )

        assert ["t.py::g"] == mapping.tests_for(mutant(place="", line=1, last_line=1, before="MOST = 3"))


class TestSurvivors:
    def test_are_known_by_their_text(self, tmp_path):
        """
        A row says which change it is, wherever the line has gone.
        """
        one = mutant("x = a | b", "x = a & b")
        file = tmp_path / "survivors.md"
        file.write_text(f"# Words\n\n| a | b |\n{Survivors.row(one).replace('why', 'Both are 0.')}\n")
        survivors = Survivors.read(file)

        assert "Both are 0." == survivors.reason(one)
        assert "Both are 0." == survivors.reason(mutant("x = a | b", "x = a & b", line=70, digest="e"))
        assert survivors.reason(mutant("x = a | b", "x = None")) is None
        assert Survivors.read(tmp_path / "none.md").reason(one) is None


class TestReport:
    @pytest.mark.parametrize(
        ("killed", "survived", "status"), [(95, 0, 0), (0, 0, 1), (94, 6, 1), (95, 5, 1), (100, 0, 0)]
    )
    def test_the_bar(self, killed, survived, status, tmp_path, capsys):
        """
        95 % must be killed, and each survivor needs its reason.
        """
        results = [Result(mutant(number=n), "killed", 1.0, 1) for n in range(killed)]
        results += [Result(mutant(number=n), "survived", 1.0, 1) for n in range(survived)]

        assert status == command.report(results, len(results), tmp_path, seed=7)
        assert not results or f"{killed} killed, 0 timeout, {survived} survived" in capsys.readouterr().out
