"""A server that fails by the clock: well, refusing, silent, well again. Times are float seconds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from pixel_llm.resilience import Clock


class Mood(StrEnum):
    """What the server does with a request."""

    WELL = "answers"
    REFUSING = "refuses connections"
    SILENT = "is silent"


@dataclass(frozen=True, slots=True)
class Phase:
    """The server is in one *mood* from *begins* to *ends*."""

    mood: Mood
    begins: float
    ends: float


PHASES = (
    Phase(Mood.WELL, 0.0, 20.0),
    Phase(Mood.REFUSING, 20.0, 50.0),
    Phase(Mood.SILENT, 50.0, 70.0),
    Phase(Mood.WELL, 70.0, inf),
)

#: Where calls begin: well before the outage, in it, and after it.
CALLS = tuple(2.0 + 4.0 * number for number in range(30))

#: How long an answer takes.
ANSWER = 1.5


class Server:
    """Answers as :data:`PHASES` say, *start* being their beginning. What is sent into the silence is never answered."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start = clock.monotonic()

    def now(self) -> float:
        """Seconds since the beginning."""
        return self._clock.monotonic() - self._start

    async def caption(self, picture: int) -> str:
        """A caption of *picture*, or what comes of asking for it."""
        mood = next(phase.mood for phase in PHASES if self.now() < phase.ends)
        if mood is Mood.REFUSING:
            raise ConnectionRefusedError("connection refused")
        if mood is Mood.SILENT:
            await asyncio.get_running_loop().create_future()
        await self._clock.sleep_async(ANSWER)
        return f"caption of picture {picture}"
