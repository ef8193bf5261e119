"""
Ending tasks in time: one timer for each event loop, whatever the number of calls.

``asyncio.timeout()`` sets and cancels a timer of the loop for every call, at 4 to 5 µs. Here a call
puts its end into a heap and marks itself done; the loop's one timer is set for the earliest end, and
what is done by then is thrown away. What is done but not yet due is swept out when it is the larger part.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import weakref
from math import inf
from typing import Any

from pixel_llm.resilience.clock import SYSTEM_CLOCK
from pixel_llm.resilience.limits import Published

#: The heap is swept when more than this many, and more than half, of its entries are done.
_SWEEP = 64

#: Seconds within which calls end together.
_MOMENT = 1e-4

_numbers = itertools.count()


class Watch:
    """
    The end of one call in one task. Belongs to that task.

    Attributes:
        depth: How many guarded calls it lies in.
        task: The task, until the call is over.
        expired: True once the time was up and the task was cancelled for it.
    """

    __slots__ = ("_cancelling", "_dog", "depth", "expired", "task")

    def __init__(self, limits: Published) -> None:
        """Watch the current task, which must be over when *limits* end."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an async call with a deadline or a timeout must run in a task")
        loop = task.get_loop()
        self.task: asyncio.Task[Any] | None = task
        self.expired = False
        self.depth: int = limits[3]
        self._cancelling = task.cancelling()
        self._dog = dog = _watchdog_of(loop)
        ends, clock = limits[0], limits[2].clock
        if clock is not SYSTEM_CLOCK or not dog.has_system_time:
            ends += loop.time() - clock.monotonic()
        dog.add(ends, self)

    def stop(self) -> bool:
        """
        The call has ended.

        Returns:
            True if the task was cancelled because the time was up, and for no other reason: then the
            cancellation is used up, and a TimeoutError takes its place.
        """
        task, self.task = self.task, None
        if not self.expired:
            self._dog.forget()
            return False
        return task is not None and task.uncancel() <= self._cancelling


class Watchdog:
    """The ends of all calls of one event loop. Belongs to its thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        #: Whether the loop's time is the system clock's, as that of asyncio's own loops is.
        self.has_system_time = getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time
        self._ends: list[tuple[float, int, Watch]] = []
        self._done = 0
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = inf

    def add(self, when: float, watch: Watch) -> None:
        """End *watch* at the moment *when* of the loop's time."""
        heapq.heappush(self._ends, (when, next(_numbers), watch))
        if when < self._fires_at:
            self._set_timer(when)

    def forget(self) -> None:
        """One more of the calls is over before its end."""
        self._done += 1
        if self._done > _SWEEP and self._done * 2 > len(self._ends):
            self._ends = [end for end in self._ends if end[2].task is not None]
            heapq.heapify(self._ends)
            self._done = 0

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._fires_at = self.loop.call_at(when, self._fire), when

    def _fire(self) -> None:
        # The timer may fire early, by as much as the loop's clock is coarse. And what ends at the same moment by
        # the stacks' clock may be microseconds apart by the loop's.
        due = max(self.loop.time(), self._fires_at) + _MOMENT
        self._timer, self._fires_at = None, inf
        ends = []
        while self._ends and self._ends[0][0] <= due:
            end = heapq.heappop(self._ends)
            task = end[2].task
            if task is None:
                self._done -= 1
            else:
                ends.append((end, task))
        # The innermost call first. Its caller, if it has the same task and the same end, gets a turn of the
        # loop to take what the inner one's fallback serves; only then it is ended as well.
        ended: set[asyncio.Task[Any]] = set()
        for end, task in sorted(ends, key=_innermost_first):
            if task in ended:
                heapq.heappush(self._ends, end)
            else:
                ended.add(task)
                end[2].expired = True
                task.cancel()
        if self._ends:
            self._set_timer(self._ends[0][0])


def _innermost_first(due: tuple[tuple[float, int, Watch], asyncio.Task[Any]]) -> int:
    return -due[0][2].depth


# Weak in both directions: a loop that is dropped with calls under way takes its watchdog along.
# What keeps a watchdog alive is the timer that it has set in its loop.
_watchdogs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[Watchdog]] = weakref.WeakKeyDictionary()
_latest: weakref.ref[Watchdog] | None = None


def _watchdog_of(loop: asyncio.AbstractEventLoop) -> Watchdog:
    global _latest
    watchdog = _latest() if _latest is not None else None
    if watchdog is not None and watchdog.loop is loop:
        return watchdog  # nearly always: most programs have one loop
    known = _watchdogs.get(loop)
    watchdog = known() if known is not None else None
    if watchdog is None:
        watchdog = Watchdog(loop)
        _watchdogs[loop] = weakref.ref(watchdog)
    _latest = _watchdogs[loop]
    return watchdog
