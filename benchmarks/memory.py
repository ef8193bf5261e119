"""What many targets and many calls take."""

from __future__ import annotations

import gc
import time
import tracemalloc

from benchmarks.measure import per_call
from benchmarks.stacks import OURS, ours

TARGETS = 10_000


def compiling() -> dict[str, float]:
    """Seconds to compile, and to wrap a function for, so many targets."""
    # Most of it goes to looking for garbage, also among what other benchmarks have loaded: that is not ours.
    gc.collect()
    gc.freeze()
    times = []
    for _ in range(3):
        started = time.perf_counter()
        made = [ours(_nothing) for _ in range(TARGETS)]
        times.append(time.perf_counter() - started)
        del made
        gc.collect()
    gc.unfreeze()
    return {f"{TARGETS} targets": sorted(times)[1]}


def bytes_each() -> dict[str, float]:
    """Bytes that a compiled target takes: never called, and called."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    made = [ours(_nothing) for _ in range(TARGETS)]
    gc.collect()
    compiled = tracemalloc.get_traced_memory()[0] - before
    for call in made:
        call()
    called = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return {"compiled": compiled / TARGETS, "compiled and called": called / TARGETS}


def one_of_many() -> dict[str, float]:
    """Seconds a call of one target, alone and among 10,000 others."""
    alone = ours(_nothing)
    many = [ours(_nothing) for _ in range(TARGETS)]
    return per_call({f"{OURS}, alone": alone, f"the same, one of {TARGETS}": many[TARGETS // 2]}, calls=5_000)


def many_calls() -> dict[str, float]:
    """Bytes in use after many calls of one target: of those that succeed, and of those that a fallback serves for."""
    sizes = {}
    for what, call, marks in (
        ("succeed", ours(_nothing), (10_000, 1_000_000)),
        ("fail", ours(_fails, retry=None), (10_000, 100_000)),
    ):
        tracemalloc.start()
        for number in range(1, marks[-1] + 1):
            call()
            if number in marks:
                gc.collect()
                sizes[f"{number:,} calls that {what}"] = float(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    return sizes


def _nothing() -> None:
    return None


def _fails() -> None:
    raise ConnectionError("gone")
