"""Judging schedules by the thousand, in one process or several."""

from __future__ import annotations

import concurrent.futures
import gc
import itertools
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from soak.drawing import draw_schedule
from soak.judging import judge, ready
from soak.schedule import Schedule
from tools.lifeline import end_with

#: After so many failures there is enough to look at.
ENOUGH = 5

#: Schedules that a process takes at once, and after how many it collects its garbage.
BATCH = 500
_TIDY = 100


@dataclass(slots=True)
class Tally:
    """What came of a run. *failures* holds, by the number of its schedule, what should not have happened."""

    count: int = 0
    seconds: float = 0.0
    failures: dict[int, list[str]] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Take in what came of another batch."""
        self.count += other.count
        self.failures |= other.failures


def schedule_of(seed: int, number: int, world: str | None = None) -> Schedule:
    """The schedule with this number. It depends on these arguments alone."""
    return draw_schedule(Random(seed << 40 | number), world)


def run_batch(seed: int, numbers: range, world: str | None = None, ends: float | None = None) -> Tally:
    """Judge the schedules with these numbers, until there are enough failures or the moment *ends* has come."""
    tally = Tally()
    with ready():
        for number in numbers:
            if len(tally.failures) >= ENOUGH or (ends is not None and time.time() >= ends):
                break
            found = judge(schedule_of(seed, number, world))
            tally.count += 1
            if found:
                tally.failures[number] = found
            if tally.count % _TIDY == 0:
                gc.collect()
    return tally


def run(
    *,
    count: int,
    seed: int = 1,
    jobs: int = 1,
    world: str | None = None,
    seconds: float | None = None,
    first: int = 0,
    progress: Callable[[Tally], None] = lambda tally: None,
) -> Tally:
    """Judge *count* schedules, or as many as *seconds* allow. *progress* is told after every batch."""
    started, wall = time.monotonic(), time.time()
    ends = None if seconds is None else wall + seconds
    batches = (range(at, min(at + BATCH, first + count)) for at in range(first, first + count, BATCH))
    total = Tally()

    def take(tally: Tally) -> bool:
        total.add(tally)
        total.seconds = time.monotonic() - started
        progress(total)
        return len(total.failures) < ENOUGH and (ends is None or time.time() < ends)

    if jobs == 1:
        for numbers in batches:
            if not take(run_batch(seed, numbers, world, ends)):
                break
        return total
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, spawn, end_with, (os.getpid(),)) as pool:
        # No more than a few batches at a time wait, so that the run can end when it should.
        waiting = {pool.submit(run_batch, seed, some, world, ends) for some in itertools.islice(batches, 2 * jobs)}
        while waiting:
            done, waiting = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
            goes_on = [take(future.result()) for future in done]
            if all(goes_on):
                more = itertools.islice(batches, len(done))
                waiting |= {pool.submit(run_batch, seed, some, world, ends) for some in more}
    return total
