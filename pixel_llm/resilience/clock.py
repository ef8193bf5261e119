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


SYSTEM_CLOCK = SystemClock()
