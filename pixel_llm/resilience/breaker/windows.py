"""
Sliding windows over the latest calls: how many there were, how many failed, how many were slow.

Memory is bounded by the window's size alone, and a call is recorded in constant time, however
many there are. Neither window is safe for concurrent use: the breaker's lock guards them.
"""

from __future__ import annotations

from typing import Protocol

from pixel_llm.policy.sections.circuit_breaker import WINDOW_STEPS, WindowConfig

_FAILED, _SLOW = 1, 2


class Window(Protocol):
    """
    The latest calls.

    Attributes:
        calls: How many are in the window.
        failures: How many of them failed.
        slow: How many of them were slow, failed or not.
    """

    calls: int
    failures: int
    slow: int

    def record(self, *, failed: bool, slow: bool, now: float) -> None:
        """Add a call that ended at *now*, in seconds, and forget those that have left the window."""


class CountWindow:
    """
    The last *size* calls. Takes *size* bytes.

    The ring of outcomes of resilience4j's ``FixedSizeSlidingWindowMetrics``.
    """

    __slots__ = ("_next", "_ring", "calls", "failures", "slow")

    def __init__(self, size: int) -> None:
        self._ring = bytearray(size)
        self._next = 0
        self.calls = self.failures = self.slow = 0

    def record(self, *, failed: bool, slow: bool, now: float) -> None:
        """Add a call in the place of the oldest one."""
        ring, index = self._ring, self._next
        if self.calls == len(ring):
            oldest = ring[index]
            self.failures -= oldest & _FAILED
            self.slow -= oldest >> 1
        else:
            self.calls += 1
        ring[index] = (_FAILED if failed else 0) | (_SLOW if slow else 0)
        self._next = index + 1 if index + 1 < len(ring) else 0
        self.failures += failed
        self.slow += slow


class TimeWindow:
    """
    The calls of the last *period* seconds, to a twentieth of it.

    Calls are counted in 20 buckets of a twentieth of the period each, and a bucket is forgotten as
    a whole (as in Hystrix's ``HystrixRollingNumber``): a call is in the window for at least 19/20 of
    the period, and never for longer than the period. Takes 60 numbers, however many calls there are.
    """

    __slots__ = ("_buckets", "_latest", "_width", "calls", "failures", "slow")

    def __init__(self, period: float) -> None:
        self._width = period / WINDOW_STEPS
        self._buckets = [[0, 0, 0] for _ in range(WINDOW_STEPS)]
        self._latest = -WINDOW_STEPS
        self.calls = self.failures = self.slow = 0

    def record(self, *, failed: bool, slow: bool, now: float) -> None:
        """Add a call to the bucket of *now*."""
        number = int(now / self._width)
        if number > self._latest:
            self._forget(number)
        bucket = self._buckets[self._latest % WINDOW_STEPS]
        bucket[0] += 1
        bucket[1] += failed
        bucket[2] += slow
        self.calls += 1
        self.failures += failed
        self.slow += slow

    def _forget(self, number: int) -> None:
        """Empty the buckets that bucket *number*, the latest from now on, leaves behind."""
        for index in range(max(self._latest + 1, number - WINDOW_STEPS + 1), number + 1):
            bucket = self._buckets[index % WINDOW_STEPS]
            self.calls -= bucket[0]
            self.failures -= bucket[1]
            self.slow -= bucket[2]
            bucket[:] = (0, 0, 0)
        self._latest = number


def make_window(config: WindowConfig) -> Window:
    """An empty window of this size."""
    return CountWindow(config.size) if config.period is None else TimeWindow(config.period)
