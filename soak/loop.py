"""An event loop in virtual time, which picks the next of what is ready by chance."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from random import Random
from typing import Any

from soak.clock import SoakClock

#: More steps than any schedule of ours needs.
MAX_STEPS = 100_000


class Stuck(Exception):
    """Something waits for what will never happen, or never ends."""


class ShuffledLoop(asyncio.BaseEventLoop):
    """
    Runs one callback at a time: the first one that is ready, or with *chance* any one.

    Asyncio promises first in, first out. What relies on that promise where it should rely on
    an await will show; a program with two loops, or tasks that wait elsewhere first, has no such order.

    Args:
        clock: Its time.
        chance: Picks among what is ready; None keeps asyncio's order.
        wait: Called when nothing is ready, with the moment at which the next timer is due, None without
            one. It moves the clock on, or lets other threads run.

    Attributes:
        tasks: Every task that was made.
    """

    def __init__(self, clock: SoakClock, chance: Random | None, wait: Callable[[float | None], None]) -> None:
        super().__init__()
        self.tasks: list[asyncio.Task[Any]] = []
        self.woken: Callable[[], None] = lambda: None
        self.problems: list[dict[str, Any]] = []
        self._time = clock
        self._chance = chance.random if chance is not None else None
        self._wait = wait
        self._steps = 0
        self.set_exception_handler(lambda _, context: self.problems.append(context))

    def time(self) -> float:
        """The clock's."""
        return self._time.now

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> asyncio.Task[Any]:
        """Make a task and remember it."""
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self.tasks.append(task)
        return task

    def timers(self) -> list[asyncio.TimerHandle]:
        """The timers that are set."""
        return [handle for handle in self._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]

    def run_dry(self) -> None:
        """Go on until nothing is ready and no timer is set."""
        while self._ready or self.timers():  # type: ignore[attr-defined]
            self.call_soon(self.stop)
            self.run_forever()
            if not self._ready and self.timers():  # type: ignore[attr-defined]
                self._pass_time()

    def _run_once(self) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise Stuck(f"the event loop has made {MAX_STEPS} steps")
        if not ready:
            self._pass_time()
        self._take_due()
        if ready:
            place = int(self._chance() * len(ready)) if self._chance is not None and len(ready) > 1 else 0
            handle = ready[place]
            del ready[place]
            if not handle._cancelled:
                handle._run()

    def _pass_time(self) -> None:
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        self._wait(scheduled[0].when() if scheduled else None)
        self._take_due()

    def _take_due(self) -> None:
        scheduled, now = self._scheduled, self._time.now  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._when <= now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                self._ready.append(handle)  # type: ignore[attr-defined]

    def _write_to_self(self) -> None:
        self.woken()

    def _process_events(self, event_list: object) -> None:
        """There are no sockets."""
