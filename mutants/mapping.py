"""Which tests reach which line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
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
    "tests/cli",
    "tests/soak",
    "tests/docs/test_reference.py",
)

#: Tests that are one of many of their kind; one is enough.
_LEFT_OUT = ("test_hold_in_every_schedule", "TestItself", "test_soak_parts", "test_fuzz_smoke")
_LEFT_IN = ("test_hold_in_every_schedule[0]", "test_hold_in_every_schedule[1]")


@dataclass(slots=True)
class Mapping:
    """
    Tests by line of each file, and how many seconds each test takes.

    *reached* holds, for each file and line, the tests that run it; *entered* those that run any function of the file.
    """

    reached: dict[str, dict[int, list[str]]]
    entered: dict[str, list[str]]
    seconds: dict[str, float]

    def tests_for(self, mutant: Mutant) -> list[str]:
        """The tests that reach *mutant*, the fastest first."""
        lines = self.reached.get(mutant.file, {})
        found = {test for line in range(mutant.line, mutant.last_line + 1) for test in lines.get(line, ())}
        if not mutant.place or not found:
            found |= set(self.entered.get(mutant.file, ())) | self._always
        return sorted(found, key=lambda test: (self.seconds[test], test))

    @property
    def _always(self) -> set[str]:
        """What looks at everything that is there: generated files, exported names."""
        return {test for test in self.seconds if "test_schema.py" in test or "test_reference.py" in test}


def load(root: Path, folder: Path) -> Mapping:
    """The mapping of the checkout at *root*, measured now unless *folder* has it."""
    file = folder / "mapping.json"
    if not file.exists():
        _measure(root, folder)
        file.write_text(json.dumps(_read(root, folder)), "utf-8")
    found = json.loads(file.read_text("utf-8"))
    reached = {name: {int(line): tests for line, tests in lines.items()} for name, lines in found["reached"].items()}
    return Mapping(reached, found["entered"], found["seconds"])


def _measure(root: Path, folder: Path) -> None:
    """Run the tests once, unchanged, under coverage."""
    print("Running the tests once to see which lines each of them reaches …", flush=True)
    environment = os.environ | {
        "COVERAGE_FILE": str(folder / "coverage"),
        "MUTANTS_SECONDS": str(folder / "seconds.json"),
        "PYTHONPATH": str(root),
    }
    rooms = [f"--cov={room.replace('/', '.')}" for room in ROOMS]
    command = [sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", "-p", "mutants.recorder"]
    command += [*rooms, "--cov-context=test", "--cov-report=", *TESTS]
    ended = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{ended.stdout[-4000:]}\nThe tests must pass before mutants are made.")


def _read(root: Path, folder: Path) -> dict[str, object]:
    seconds = json.loads((folder / "seconds.json").read_text("utf-8"))["seconds"]
    data = coverage.CoverageData(str(folder / "coverage"))
    data.read()
    kept: dict[str, bool] = {}
    reached: dict[str, dict[int, list[str]]] = {}
    entered: dict[str, list[str]] = {}
    for path in data.measured_files():
        name = str(Path(path).relative_to(root))
        lines: dict[int, list[str]] = defaultdict(list)
        for line, contexts in data.contexts_by_lineno(path).items():
            tests = {context.rpartition("|")[0] for context in contexts if context}
            lines[line] = sorted(test for test in tests if kept.setdefault(test, _is_kept(test, seconds)))
        reached[name] = dict(lines)
        entered[name] = sorted({test for tests in lines.values() for test in tests})
    return {"reached": reached, "entered": entered, "seconds": seconds}


def _is_kept(test: str, seconds: dict[str, float]) -> bool:
    if test not in seconds:
        return False
    return any(name in test for name in _LEFT_IN) or not any(name in test for name in _LEFT_OUT)
