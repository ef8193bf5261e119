"""Where time comes from: the one thing that tests replace."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock. All times and durations are float seconds. Safe for concurrent use."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""

    def sleep(self, seconds: float) -> None:
        """Block the calling thread for *seconds*."""

    async def sleep_async(self, seconds: float) -> None:
        """Suspend the calling task for *seconds*."""

    def patience(self, seconds: float) -> float:
        """
        How long a wait of *seconds* may block in the operating system.

        A real clock answers *seconds*. A virtual one answers a short real time,
        after which the waiter looks at the clock again and waits on if it must.
        """


class SystemClock:
    """The real clock, ``time.monotonic()``."""

    __slots__ = ()

    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)
    sleep_async = staticmethod(asyncio.sleep)

    def patience(self, seconds: float) -> float:
        """Answer *seconds*."""
        return seconds


class EndableClock:
    """
    A clock that shows the time of another one until it is ended: then whoever goes by it is out of time.

    Safe for concurrent use.

    Attributes:
        ended: Whether it was ended.
    """

    #: Later than any moment, but finite: with infinite ones there is no reckoning.
    _TOO_LATE = 1e300

    #: How long, in seconds, a wait may block before it looks whether the clock was ended.
    _PATIENCE = 0.05

    __slots__ = ("_clock", "ended", "sleep", "sleep_async")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ended = False
        self.sleep, self.sleep_async = clock.sleep, clock.sleep_async

    def monotonic(self) -> float:
        """The time in seconds, or a moment after all others."""
        return self._TOO_LATE if self.ended else self._clock.monotonic()

    def patience(self, seconds: float) -> float:
        """At most 50 ms: waiters must look whether the clock was ended."""
        return min(self._PATIENCE, self._clock.patience(seconds))

    def end(self) -> None:
        """Let everybody who goes by this clock be out of time."""
        self.ended = True


def was_ended(clock: Clock) -> bool:
    """True if nobody waits any longer for what goes by *clock*."""
    return isinstance(clock, EndableClock) and clock.ended


SYSTEM_CLOCK = SystemClock()
