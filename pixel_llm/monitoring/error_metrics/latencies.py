"""
Quantiles in bounded memory.

Each power of two, from a microsecond on, is divided into 32 buckets of equal width, so a quantile is off by 1/32 of
itself at most. What watched stacks have counted comes by whole powers of two and is spread over the 32.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from pixel_llm.monitoring.error_metrics.summaries import LatencyStats
from pixel_llm.resilience.counters import BOUNDS

#: Buckets for each power of two.
PARTS = 32

#: Latencies are told apart from here on; shorter ones count as this.
SHORTEST = 1e-6

#: So many powers of two are told apart.
_POWERS = 37

#: Longer ones count as this: 38 hours.
LONGEST = SHORTEST * 2**_POWERS


class Latencies:
    """A histogram of latencies in seconds, of 9 KiB. Not safe for concurrent use."""

    __slots__ = ("_buckets", "_count", "_max", "_min", "_sum")

    def __init__(self) -> None:
        # At 0 those that are too short to be told apart, at the end those that are too long.
        self._buckets = array("d", bytes(8 * (_POWERS * PARTS + 2)))
        self._count = 0
        self._sum = 0.0
        self._min, self._max = math.inf, 0.0

    def add(self, seconds: float) -> None:
        """Add a latency."""
        self._buckets[_index(seconds)] += 1
        self._count += 1
        self._sum += seconds
        self._min, self._max = min(self._min, seconds), max(self._max, seconds)

    def add_counts(self, counts: Sequence[int]) -> None:
        """Add what a stack's histogram has counted: a number for each of its bounds, and one for all above."""
        for power, count in enumerate(counts):
            if not count:
                continue
            is_above = power == len(BOUNDS)
            upper = BOUNDS[-1] if is_above else BOUNDS[power]
            lower = upper if is_above else upper / 2 if power else 0.0
            self._count += count
            self._sum += count * (upper if is_above else upper * 2 / 3)
            self._min, self._max = min(self._min, lower), max(self._max, upper)
            first = (power - 1) * PARTS + 1
            for index in range(first, first + PARTS) if power else (0,):
                self._buckets[index] += count / (PARTS if power else 1)

    def stats(self) -> LatencyStats:
        """What is known of them."""
        if not self._count:
            return LatencyStats(count=0)
        p50, p95, p99 = (min(max(self._quantile(share), self._min), self._max) for share in (0.5, 0.95, 0.99))
        avg = self._sum / self._count
        return LatencyStats(count=self._count, min=self._min, max=self._max, avg=avg, p50=p50, p95=p95, p99=p99)

    def _quantile(self, share: float) -> float:
        wanted, before = share * self._count, 0.0
        upper = 0.0
        for index, count in enumerate(self._buckets):
            if not count:
                continue
            lower, upper = _bounds(index)
            if before + count >= wanted:
                return lower + (upper - lower) * max(0.0, wanted - before) / count
            before += count
        return upper  # the parts of a spread bucket add up to a hair less


def _index(seconds: float) -> int:
    if seconds < SHORTEST:
        return 0
    mantissa, power = math.frexp(min(seconds, LONGEST) / SHORTEST)  # mantissa · 2^power µs, mantissa from 0.5 to 1
    return (power - 1) * PARTS + int((mantissa - 0.5) * 2 * PARTS) + 1


def _bounds(index: int) -> tuple[float, float]:
    if index == 0:
        return 0.0, SHORTEST
    power, part = divmod(index - 1, PARTS)
    unit = SHORTEST * 2**power
    return unit * (1 + part / PARTS), unit * (1 + (part + 1) / PARTS)
