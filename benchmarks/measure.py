"""Measuring on a noisy machine: candidates take turns, the median of the rounds counts."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

ROUNDS = 15


def per_call(candidates: Mapping[str, Callable[[], object]], calls: int = 20_000) -> dict[str, float]:
    """The median cost of a call in seconds, for each candidate, all in turn."""
    rounds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, call in candidates.items():
            started = time.perf_counter()
            for _ in range(calls):
                call()
            rounds[name].append((time.perf_counter() - started) / calls)
    return {name: statistics.median(times) for name, times in rounds.items()}


def p50(candidates: Mapping[str, Callable[[], object]], calls: int) -> dict[str, float]:
    """The median time in seconds of single calls, for each candidate, all in turn."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, call in candidates.items():
            for _ in range(calls):
                started = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(measured) for name, measured in times.items()}


def per_await(candidates: Mapping[str, Callable[[], Awaitable[object]]], calls: int = 10_000) -> dict[str, float]:
    """The median cost of an awaited call in seconds, for each candidate, all in turn."""

    async def measure() -> dict[str, float]:
        rounds: dict[str, list[float]] = {name: [] for name in candidates}
        for _ in range(ROUNDS):
            for name, call in candidates.items():
                started = time.perf_counter()
                for _ in range(calls):
                    await call()
                rounds[name].append((time.perf_counter() - started) / calls)
        return {name: statistics.median(times) for name, times in rounds.items()}

    return asyncio.run(measure())


def in_turn(candidates: Mapping[str, Callable[[], object]], rounds: int = 7) -> dict[str, float]:
    """The median time in seconds of one run of each candidate, all in turn."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(measured) for name, measured in times.items()}


def command(*words: str) -> Callable[[], object]:
    """A candidate that runs a command and must succeed."""

    def run() -> object:
        return subprocess.run(words, check=True, capture_output=True)

    return run


#: A small process in between: what a child takes at most is at least what its parent took when it was forked.
_REPORT_PEAK = (
    "import resource, subprocess, sys\n"
    "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == 'darwin' else 1024))\n"
)


def peak_memory(*words: str) -> float:
    """The most memory in bytes that a command, which must succeed, has taken."""
    done = subprocess.run([sys.executable, "-c", _REPORT_PEAK, *words], check=True, capture_output=True, text=True)
    return float(done.stdout)


def commands(candidates: Mapping[str, Sequence[str]], rounds: int = 7) -> dict[str, float]:
    """The median time in seconds of whole commands, in turn."""
    return in_turn({name: command(*words) for name, words in candidates.items()}, rounds)
