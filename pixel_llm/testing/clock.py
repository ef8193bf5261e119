"""A clock that only moves when it is told to."""

from __future__ import annotations

import asyncio
import threading


class VirtualClock:
    """
    A :class:`pixel_llm.resilience.Clock` under the test's control. Thread-safe.

    ``sleep`` returns at once and moves the clock on by what was asked. A wait on
    a real socket looks at the clock every few milliseconds, so a test that moves
    it (see :class:`ScriptedLMStudio`'s *on_step*) lets 30 s of silence pass at once.

    Attributes:
        sleeps: Every sleep so far, in seconds.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._lock = threading.Lock()
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        """The virtual time in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock on by *seconds*."""
        with self._lock:
            self._now += seconds

    def sleep(self, seconds: float) -> None:
        """Record the sleep, move on, return at once."""
        self.sleeps.append(seconds)
        self.advance(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Record the sleep, move on, let other tasks run once."""
        self.sleep(seconds)
        await asyncio.sleep(0)

    def patience(self, seconds: float) -> float:
        """At most 5 ms of real time, so that waits notice when the clock has moved."""
        return min(seconds, 0.005)
