"""Running cases by the thousand, in one process or several."""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from dataclasses import dataclass, field
from random import Random

from fuzz.cases import Case, CaseError, make_case, run_case
from fuzz.corpus import Corpus, load_corpus
from tools.lifeline import end_with

#: No case may take longer, in seconds of processor time.
MAX_SECONDS = 2.0

#: After so many failures there is enough to look at.
_ENOUGH = 10


@dataclass(slots=True)
class Tally:
    """What came of a run. *failures* holds, by its number, each case that failed and the traceback."""

    accepted: int = 0
    rejected: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    failures: dict[int, tuple[Case, str]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many cases were run."""
        return self.accepted + self.rejected + len(self.failures)

    def add(self, other: Tally) -> None:
        """Take in what came of another process."""
        self.accepted += other.accepted
        self.rejected += other.rejected
        self.slowest = max(self.slowest, other.slowest)
        self.failures |= other.failures

    def summary(self, seed: int) -> str:
        """The run in one line."""
        return (
            f"{self.count} cases, {self.accepted} accepted, {self.rejected} rejected, {len(self.failures)} failed, "
            f"in {self.seconds:.0f} s, the slowest {self.slowest * 1000:.0f} ms (seed {seed})"
        )


def run(*, count: int, seed: int = 1, jobs: int = 1, seconds: float | None = None) -> Tally:
    """Run *count* cases, or as many as *seconds* allow. Cases depend on *seed* and their number alone."""
    started = time.monotonic()
    parts = [(seed, range(part, count, jobs), seconds) for part in range(jobs)]
    total = Tally()
    if jobs == 1:
        total.add(_run_part(*parts[0]))
    else:
        with multiprocessing.get_context("spawn").Pool(jobs, end_with, (os.getpid(),)) as pool:
            for tally in pool.starmap(_run_part, parts):
                total.add(tally)
    total.seconds = time.monotonic() - started
    return total


def _run_part(seed: int, numbers: range, seconds: float | None) -> Tally:
    corpus = load_corpus()
    tally = Tally()
    ends = None if seconds is None else time.monotonic() + seconds
    for number in numbers:
        if len(tally.failures) >= _ENOUGH or (ends is not None and time.monotonic() >= ends):
            break
        _run_one(case_of(seed, number, corpus), number, tally)
    return tally


def case_of(seed: int, number: int, corpus: Corpus) -> Case:
    """The case with this number."""
    return make_case(Random(seed << 40 | number), corpus)


def _run_one(case: Case, number: int, tally: Tally) -> None:
    started = time.process_time()
    try:
        accepted = run_case(case)
        took = time.process_time() - started
        if took > MAX_SECONDS:
            raise CaseError(f"a case that takes {took:.1f} s")
    except Exception:  # noqa: BLE001 - whatever it is, it is what we look for
        tally.failures[number] = (case, traceback.format_exc())
        return
    tally.slowest = max(tally.slowest, took)
    if accepted:
        tally.accepted += 1
    else:
        tally.rejected += 1
