"""Running the tests of one mutant after the other, several at a time."""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mutants.making import Mutant
from mutants.mapping import Mapping, tests_of
from mutants.state import listed
from tools.lifeline import end_with

if TYPE_CHECKING:
    import pytest

#: Seconds of the processor that a mutant's tests get beside what they take by themselves, and how many times that.
_GRACE = 20.0
_TIMES = 3.0

#: The longest that the tests of one mutant may take, unchanged, in seconds; the slowest ones are left out.
MOST_SECONDS = 60.0

#: What a process ends with that could not even run pytest.
_BROKEN = 99

#: What every process needs, imported once. Nothing of it may import pixel_llm.
_PRELOADED = (
    "asyncio", "cachetools", "click", "h11", "httpcore", "httpx", "hypothesis", "hypothesis.strategies", "jsonschema",
    "numpy", "pybreaker", "pytest", "rich.console", "rich.table", "structlog", "tenacity", "yaml",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a mutant: ``killed``, ``survived``, ``timeout``, or ``unreached`` if no test runs it."""

    mutant: Mutant
    verdict: str
    seconds: float
    tests: int
    by: str = ""


class Copy:
    """A copy of the checkout in which one file at a time is changed."""

    def __init__(self, root: Path, place: Path) -> None:
        self.place = place
        shutil.rmtree(place, ignore_errors=True)
        for name in listed(root):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, place / name)

    def warm_up(self) -> None:
        """Compile everything once, so that each run only compiles what is changed."""
        environment = os.environ | {"PYTHONPATH": str(self.place)}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--collect-only",
            "-p",
            "no:cacheprovider",
            *tests_of(self.place),
        ]
        subprocess.run(command, cwd=self.place, env=environment, capture_output=True, check=True)

    @contextlib.contextmanager
    def changed(self, file: str, text: str) -> Iterator[None]:
        """Within, *file* holds *text*."""
        path = self.place / file
        original = path.read_text("utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()
        path.write_text(text, "utf-8")
        try:
            yield
        finally:
            path.write_text(original, "utf-8")


@dataclass(slots=True)
class _Running:
    mutant: Mutant
    tests: list[str]
    copy: Copy
    change: contextlib.ExitStack
    began: float
    limit: float
    process: int


def preload() -> None:
    """Import what the tests need, once for all processes that are forked off."""
    sys.dont_write_bytecode = True
    for name in _PRELOADED:
        importlib.import_module(name)
    if "pixel_llm" in sys.modules:
        raise RuntimeError("pixel_llm is imported where mutants of it are to be")


def control(copy: Copy, mapping: Mapping) -> list[str]:
    """Run every test where nothing is changed; gives those that fail there, and so could not tell anything."""
    tests = mapping.every_test()
    parent, process = os.getpid(), os.fork()
    if process == 0:
        _run_tests(parent, copy.place, tests, 3600.0, until_one_fails=False)
    _, status = os.waitpid(process, 0)
    log = (copy.place / "mutant.log").read_text("utf-8", "replace")
    if not os.WIFEXITED(status) or os.WEXITSTATUS(status) not in (0, 1):
        sys.exit(f"{log[-4000:]}\nThe tests can't be run where nothing is changed (status {status}).")
    known = set(tests)
    found = {line.partition(" ")[2] for line in log.splitlines() if line.startswith(("FAILED ", "ERROR "))}
    return sorted(test for test in known if any(text == test or text.startswith(f"{test} - ") for text in found))


def run(
    drawn: Iterable[tuple[Mutant, str]], mapping: Mapping, copies: list[Copy], stop: Callable[[], bool]
) -> Iterator[Result]:
    """Run the tests of each mutant, as many at a time as there are *copies*, until *stop* says so."""
    waiting, free, running = iter(drawn), list(copies), list[_Running]()
    while True:
        while free and not stop() and (following := next(waiting, None)) is not None:
            mutant, text = following
            tests = _affordable(mapping.tests_for(mutant), mapping)
            if not tests:
                yield Result(mutant, "unreached", 0.0, 0)
                continue
            running.append(_start(mutant, text, tests, mapping, free.pop()))
        if not running:
            return
        time.sleep(0.02)
        for one in list(running):
            result = _look(one)
            if result is not None:
                running.remove(one)
                free.append(one.copy)
                yield result


def _affordable(tests: list[str], mapping: Mapping) -> list[str]:
    total, kept = 0.0, []
    for test in tests:
        total += mapping.seconds[test]
        if total > MOST_SECONDS and kept:
            break
        kept.append(test)
    return kept


def _start(mutant: Mutant, text: str, tests: list[str], mapping: Mapping, copy: Copy) -> _Running:
    change = contextlib.ExitStack()
    change.enter_context(copy.changed(mutant.file, text))
    limit = _GRACE + _TIMES * sum(mapping.seconds[test] for test in tests)
    parent, process = os.getpid(), os.fork()
    if process == 0:
        _run_tests(parent, copy.place, tests, limit)
    return _Running(mutant, tests, copy, change, time.monotonic(), limit, process)


def _look(one: _Running) -> Result | None:
    """What became of it; None while it runs."""
    ended, status = os.waitpid(one.process, os.WNOHANG)
    took = time.monotonic() - one.began
    too_long = not ended and took > 2 * one.limit
    if too_long:
        os.killpg(one.process, signal.SIGKILL)
        os.waitpid(one.process, 0)
    if not ended and not too_long:
        return None
    one.change.close()
    by = ""
    log = one.copy.place / "mutant.log"
    if too_long or (os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)):
        verdict = "timeout"
    elif os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
        verdict = "survived"
    elif os.WIFEXITED(status) and os.WEXITSTATUS(status) == _BROKEN:
        sys.exit(f"{log.read_text('utf-8', 'replace')[-4000:]}\nThe tests of {one.mutant} can't be run.")
    else:
        verdict = "killed"
        lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
        by = next((line for line in lines if line.startswith(("FAILED", "ERROR"))), lines[-1] if lines else "")[:200]
    return Result(one.mutant, verdict, took, len(one.tests), by)


def _run_tests(parent: int, place: Path, tests: list[str], limit: float, *, until_one_fails: bool = True) -> None:
    """In the child of *parent*: run *tests*, and exit with what came of them."""
    status, only = _BROKEN, _Only(tests)
    try:
        end_with(parent)
        for name in ("tools.lifeline", "tools"):  # the copy has its own
            del sys.modules[name]
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 3))
        log = os.open(place / "mutant.log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(place)
        sys.path = [str(place), *filter(_is_no_checkout, sys.path)]
        os.environ |= {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        run = importlib.import_module("pytest").main
        # As an object: under its name pytest would complain that it can't rewrite what is imported already.
        hypothesis = importlib.import_module("_hypothesis_pytestplugin")
        files = sorted({test.partition("::")[0] for test in tests})
        options = [
            *["-x"] * until_one_fails,
            "-o",
            "addopts=",  # what is loaded by `-p` there is imported already, of which pytest would complain
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-p",
            "no:pytest_cov",
            "--tb=no",
        ]
        status = int(run([*options, "--rootdir", str(place), *files], plugins=[only, hypothesis]))
        if status == 5:  # nothing was collected: the mutant has taken the tests away
            status = 1
    except BaseException:  # noqa: BLE001 - this process ends here
        traceback.print_exc()
        if only.has_finished:  # pytest's last look at what finalisers have raised: its users would see it fail
            status = 1
    finally:
        sys.stdout.flush()
        os._exit(status)


def _is_no_checkout(entry: str) -> bool:
    return bool(entry) and not (Path(entry) / "pixel_llm/__init__.py").exists()


class _Only:
    """
    A pytest plugin: these tests and no others, in this order; one that fails is run again.

    Only what fails twice has failed. A test that fails now and then by itself must not pass for one that has noticed.
    """

    def __init__(self, tests: list[str]) -> None:
        self._order = {test: number for number, test in enumerate(tests)}
        self.has_finished = False

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep what is wanted."""
        wanted = [item for item in items if item.nodeid in self._order]
        items[:] = sorted(wanted, key=lambda item: self._order[item.nodeid])

    def pytest_sessionfinish(self) -> None:
        """All tests have been run, or one has failed."""
        self.has_finished = True

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run *item*, and once more if it fails; what came of the last run is reported."""
        runner = importlib.import_module("_pytest.runner")
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = runner.runtestprotocol(item, nextitem=nextitem, log=False)
        if any(report.failed for report in reports):
            reports = runner.runtestprotocol(item, nextitem=nextitem, log=False)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True
