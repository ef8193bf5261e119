"""
What a stack counts: exact under threads, without a lock, read when asked.

A success costs one step of a counter: that of its bucket in the histogram. The counters are
:class:`itertools.count` objects: one step of them is a single operation of the interpreter,
which no other thread can interrupt, whereas ``x += 1`` loses steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: Upper bounds of the histogram's buckets in seconds, each twice the one before: 1 µs to 18 minutes.
BOUNDS: tuple[float, ...] = tuple(1e-6 * 2**power for power in range(31))

#: Buckets that share the last counter, so that the bits of any time in microseconds are an index: 64 are 290,000 years.
_ABOVE = 64 - len(BOUNDS)


@dataclass(frozen=True, slots=True)
class Histogram:
    """
    How long calls took. Immutable.

    *counts* has a number for each of *bounds* (seconds, upper bounds, not included) and one for all above.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many calls there were."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """
        The time in seconds within which *share* of the calls (0 to 1) ended; None if there were none.

        It lies in the right bucket; within it the calls are taken to be spread evenly, as Prometheus'
        ``histogram_quantile`` does it. Beyond the last bound it is that bound.
        """
        wanted, before = share * self.count, 0
        if not self.count:
            return None
        lower = 0.0
        for upper, count in zip(self.bounds, self.counts, strict=False):
            if count and before + count >= wanted:
                return lower + (upper - lower) * max(0.0, wanted - before) / count
            before += count
            lower = upper
        return lower


@dataclass(frozen=True, slots=True, kw_only=True)
class StackStats:
    """
    What has become of the calls of one target so far. Immutable; a call under way is not in it yet.

    Attributes:
        succeeded: Calls whose value came from the callable, at once or after retries.
        failed: Calls that failed for good, those included for which a fallback served.
        happened: How often each event was reported, by its name, and ``cache_hit``, ``cache_miss`` and
            ``shared_call`` of a read-through cache; what never happened is not there.
        latency: How long the calls that succeeded took, waits included.
    """

    succeeded: int
    failed: int
    happened: dict[str, int]
    latency: Histogram


class Counters:
    """The counters of one stack. Safe for concurrent use."""

    __slots__ = ("_happened", "latencies")

    def __init__(self) -> None:
        # Guards step them by themselves: next(latencies[(seconds * 1e6).__trunc__().bit_length()]).
        # That is bisect() for these bounds, in half its time.
        self.latencies = [*(itertools.count() for _ in BOUNDS), *[itertools.count()] * _ABOVE]
        self._happened: dict[str, Iterator[int]] = {}

    def record_success(self, elapsed: float) -> None:
        """Count a call that succeeded within *elapsed* seconds."""
        next(self.latencies[(elapsed * 1e6).__trunc__().bit_length()])

    def count(self, name: str) -> None:
        """Count an event by its name."""
        counter = self._happened.get(name)
        if counter is None:  # setdefault() is atomic, so that two threads get the same counter
            counter = self._happened.setdefault(name, itertools.count())
        next(counter)

    def successes(self) -> int:
        """How many calls have succeeded."""
        return self.latency().count

    def succeeded_at_once(self) -> int:
        """How many calls have succeeded at their first attempt."""
        return sum(self._latencies()) - self.happened("call_recovered")

    def happened(self, name: str) -> int:
        """How often the event of this name was counted."""
        counter = self._happened.get(name)
        return 0 if counter is None else _value(counter)

    def latency(self) -> Histogram:
        """How long the calls that succeeded took."""
        return Histogram(BOUNDS, tuple(self._latencies()))

    def stats(self) -> StackStats:
        """All of it, as it is now."""
        latency = self.latency()
        happened = {name: _value(counter) for name, counter in self._happened.copy().items()}
        return StackStats(
            succeeded=latency.count, failed=happened.get("call_failed", 0), happened=happened, latency=latency
        )

    def _latencies(self) -> Iterator[int]:
        """The values of all buckets, read in one operation of the interpreter: ``[count(3), count(0), …]``."""
        return map(int, repr(self.latencies[: len(BOUNDS) + 1])[7:-2].split("), count("))


def _value(counter: Any) -> int:
    """The value of an :class:`itertools.count`, read without a step of it: its repr is ``count(value)``."""
    return int(repr(counter)[6:-1])
