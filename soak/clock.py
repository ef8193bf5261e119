"""Virtual time, shared by the threads and the event loops of one schedule."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from soak.stepper import Stepper

#: Where every schedule begins. Binary fractions added to it are exact.
START = 1024.0


class SoakClock:
    """
    A clock that moves when everybody waits: to the moment the first of them waits for.

    Attributes:
        now: The moment, in seconds.
        stepper: Who runs the threads; None where there is only an event loop.
    """

    def __init__(self) -> None:
        self.now = START
        self.stepper: Stepper | None = None

    def monotonic(self) -> float:
        """The virtual time in seconds."""
        return self.now

    def advance_to(self, moment: float) -> None:
        """Move on to *moment*, unless it has passed."""
        self.now = max(self.now, moment)

    def sleep(self, seconds: float) -> None:
        """Let the other threads run for *seconds*."""
        if self.stepper is None or not self.stepper.steps_this_thread():
            self.now += seconds
        else:
            self.stepper.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Let the other tasks run for *seconds*; the loop's time is this clock's."""
        await asyncio.sleep(seconds)

    def patience(self, seconds: float) -> float:
        """Answer *seconds*: the waits of stepped threads are virtual as well."""
        return seconds
