"""Which tests reach which line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import coverage

from mutants.making import ROOMS, Mutant

#: The tests that may notice a mutant. Others need a model, a wheel or a minute, and look at other rooms.
TESTS = (
    "tests/policy",
    "tests/resilience",
    "tests/runtime",
    "tests/errors",
    "tests/events",
    "tests/monitoring",
    "tests/lm_studio",
    "tests/cli/test_policy_explain.py",
    "tests/cli/test_policy_list.py",
    "tests/cli/test_policy_show.py",
    "tests/cli/test_policy_diff.py",
    "tests/soak/test_promises.py",
    "tests/docs/test_reference.py",
)

#: Tests that are like many others, or look at something else.
_LEFT_OUT = (
    *(f"tests/soak/test_promises.py::TestPromises::test_hold_in_every_schedule[{part}]" for part in range(2, 20)),
    "tests/soak/test_promises.py::TestItself",
    "tests/policy/test_fuzz_smoke.py",
    "tests/policy/test_hostile_files.py",
)

#: Tests of what is generated from the code, of what is exported, and of the words of all rules.
_LOOK_AT_EVERYTHING = ("test_schema.py", "test_reference.py", "test_exports.py", "test_lint_rules.py::TestCatalogue")


def tests_of(root: Path) -> list[str]:
    """Those of :data:`TESTS` that are there."""
    return [test for test in TESTS if (root / test).exists()]


@dataclass(slots=True)
class Mapping:
    """
    Tests by line of each file, and how many seconds each test takes.

    *reached* holds, for each file and line, the tests that run it; *entered* those that run any function of the file;
    *imported* the lines that run when modules are imported, in which every test may have a part. *root* is where the
    files lie.
    """

    reached: dict[str, dict[int, set[str]]]
    entered: dict[str, set[str]]
    imported: dict[str, set[int]]
    seconds: dict[str, float]
    root: Path | None = None

    def tests_for(self, mutant: Mutant) -> list[str]:
        """The tests that reach *mutant*, the fastest first, after those that look at everything, where they may."""
        changed = range(mutant.line, mutant.last_line + 1)
        lines = self.reached.get(mutant.file, {})
        found = {test for line in changed for test in lines.get(line, ())}
        if not mutant.place:
            found |= self._that_read(mutant.before)
        if not mutant.place or not found or not self.imported.get(mutant.file, set()).isdisjoint(changed):
            found |= self.entered.get(mutant.file, set()) | self._always
        # Whoever enters the file may have a part in it, and those are too many to run them all.
        always = self._always
        return sorted(found, key=lambda test: (test not in always, self.seconds[test], test))

    def _that_read(self, assignment: str) -> set[str]:
        """The tests that reach a line which names what a module's *assignment* gives a value to."""
        name = re.match(r"\w+(?=\s*[:=])", assignment)
        if name is None or self.root is None:
            return set()
        named = re.compile(rf"\b{name[0]}\b")
        found: set[str] = set()
        for file, lines in self.reached.items():
            for number, text in enumerate((self.root / file).read_text("utf-8").splitlines(), 1):
                if named.search(text):
                    found |= lines.get(number, set())
        return found

    def every_test(self) -> list[str]:
        """All tests that may be asked to run, the fastest first."""
        found = set().union(self._always, *self.entered.values())
        return sorted(found, key=lambda test: (self.seconds[test], test))

    def leave_out(self, tests: Iterable[str]) -> None:
        """Never ask *tests* again."""
        for test in tests:
            print(f"left out, since it does not pass where mutants are tested: {test}", flush=True)
            self.seconds.pop(test, None)
            for found in (
                *self.entered.values(),
                *(some for lines in self.reached.values() for some in lines.values()),
            ):
                found.discard(test)

    @property
    def _always(self) -> set[str]:
        """What looks at everything that is there: generated files, exported names."""
        return {test for test in self.seconds if any(file in test for file in _LOOK_AT_EVERYTHING)}


def load(root: Path, folder: Path) -> Mapping:
    """The mapping of the checkout at *root*, measured now unless *folder* has it."""
    if not (folder / "seconds.json").exists():
        _measure(root, folder)
    return _read(root, folder)


def _measure(root: Path, folder: Path) -> None:
    """Run the tests once, unchanged, under coverage."""
    print("Running the tests once to see which lines each of them reaches …", flush=True)
    environment = os.environ | {
        "COVERAGE_FILE": str(folder / "coverage"),
        "MUTANTS_SECONDS": str(folder / "seconds.json"),
        "PYTHONPATH": os.pathsep.join((str(root), str(Path(__file__).parents[1]))),
    }
    rooms = [f"--cov={room.replace('/', '.')}" for room in ROOMS]
    command = [sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", "-p", "mutants.recorder"]
    command += [f"--deselect={test}" for test in _LEFT_OUT]
    command += [*rooms, "--cov-context=test", "--cov-report=", *tests_of(root)]
    ended = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, 1):
        sys.exit(f"{ended.stdout[-4000:]}\nThe tests can't be run.")


def _read(root: Path, folder: Path) -> Mapping:
    recorded = json.loads((folder / "seconds.json").read_text("utf-8"))
    for test in recorded["not_passed"]:
        print(f"left out, since it does not pass: {test}", flush=True)
    seconds = {test: took for test, took in recorded["seconds"].items() if test not in recorded["not_passed"]}
    data = coverage.CoverageData(str(folder / "coverage"))
    data.read()
    names: dict[str, str] = {}  # the same text for each context, of which there are millions
    mapping = Mapping({}, {}, {}, seconds, root)
    for path in data.measured_files():
        name = str(Path(path).relative_to(root))
        lines, mapping.imported[name] = {}, set()
        for line, contexts in data.contexts_by_lineno(path).items():
            tests = {names.setdefault(context, context.rpartition("|")[0]) for context in contexts}
            lines[line] = tests & seconds.keys()
            if "" in contexts:
                mapping.imported[name].add(line)
        mapping.reached[name] = lines
        mapping.entered[name] = set().union(*lines.values())
    return mapping
