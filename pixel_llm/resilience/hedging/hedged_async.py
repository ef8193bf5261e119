"""Attempts side by side in the async world. :mod:`hedged_sync` is its twin."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from math import inf
from typing import Any

from pixel_llm.resilience.breaker.no_breaker import NO_SHORT_ROAD
from pixel_llm.resilience.call import Call
from pixel_llm.resilience.hedging.delays import Hedging
from pixel_llm.resilience.hedging.race import Contender, Race
from pixel_llm.resilience.roads.async_guard import AsyncRoad
from pixel_llm.resilience.roads.options import GuardOptions
from pixel_llm.resilience.stack import Stack


class HedgedAsyncRoad(AsyncRoad):
    """
    A road on which an attempt that takes long gets others beside it, each in a task of its own.

    The losers are cancelled, and waited for: no task outlives the call.
    """

    __slots__ = ("_hedging",)

    def __init__(
        self, stack: Stack, function: Callable[..., Awaitable[Any]], options: GuardOptions, hedging: Hedging
    ) -> None:
        super().__init__(stack, function, options)
        self._hedging = hedging
        self.gate = NO_SHORT_ROAD

    async def _round(self, call: Call, permit: int) -> Any:
        race = Race(self.stack, call, self._hedging, self.stack.enter_at_once)
        running: dict[asyncio.Task[Any], Contender] = {}
        self._begin(race, race.primary(permit), running)
        done: set[asyncio.Task[Any]] = set()
        task = None
        try:
            while running:
                done = await self._first_of(running, race.next_moment())
                if not done and (another := race.send_another()) is not None:
                    self._begin(race, another, running)
                for task in sorted(done, key=_has_failed):
                    contender = running.pop(task)
                    try:
                        value = task.result()
                    except Exception as error:
                        if race.lost(contender, error):
                            race.failure()
                            raise
                    else:
                        return race.won(contender, value)
            raise race.failure()
        finally:
            done, task = set(), None  # they hold errors, whose tracebacks hold this frame: a cycle
            await self._end(running)

    async def _first_of(self, running: Iterable[asyncio.Task[Any]], moment: float) -> set[asyncio.Task[Any]]:
        """Those that have ended first, none if *moment* comes before."""
        remaining = None if moment == inf else max(0.0, moment - self.stack.clock.monotonic())
        done, _ = await asyncio.wait(running, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
        return done

    def _begin(self, race: Race, contender: Contender, running: dict[asyncio.Task[Any], Contender]) -> None:
        running[asyncio.ensure_future(self._run(race, contender))] = contender

    async def _run(self, race: Race, contender: Contender) -> Any:
        race.begin(contender)
        return await super()._round(contender.call, contender.permit)

    async def _end(self, running: dict[asyncio.Task[Any], Contender]) -> None:
        """Cancel those that still run, and wait until they have ended."""
        cancelled: asyncio.CancelledError | None = None
        while waiting := [task for task in running if not task.done()]:
            for task in waiting:
                task.cancel()
            try:
                await asyncio.wait(waiting)
            except asyncio.CancelledError as error:  # the caller's: they are cancelled again
                cancelled = error
        for task, contender in running.items():
            if not contender.number:  # cancelled before its first step: what it was admitted with is still there
                self.stack.never_began(contender.call, contender.permit)
            if not task.cancelled():
                task.exception()  # has been looked at: nobody needs to hear of it
        if cancelled is not None:
            raise cancelled


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None
