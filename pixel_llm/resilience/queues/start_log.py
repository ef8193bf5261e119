"""The log of a rate limit: when calls have started, and when the next ones may."""

from __future__ import annotations

import math
from collections import deque
from math import inf


class StartLog:
    """
    The last starts, of which at most ``max_calls`` fall into any window of ``period`` seconds.

    It holds as many as its largest ``max_calls`` so far: 8 bytes each. Not safe for concurrent use: the rate limit
    calls it with its lock held.
    """

    __slots__ = ("_dropped", "_max_calls", "_period", "_shortest_period", "_starts")

    def __init__(self, max_calls: int, period: float) -> None:
        self._max_calls = max_calls
        self._period = self._shortest_period = period
        self._starts: deque[float] = deque(maxlen=max_calls)
        self._dropped = 0

    @property
    def starts(self) -> tuple[float, ...]:
        """The moments that it holds, in order."""
        return tuple(self._starts)

    def add(self, now: float) -> None:
        """A call starts *now*."""
        if len(self._starts) == self._starts.maxlen:
            self._dropped += 1
        self._starts.append(now)

    def forget(self, stamp: float) -> None:
        """
        The call that started at *stamp* did not start after all.

        If the period was shorter once, one that the log has dropped comes back into its place: it may lie within a
        period that ends now.
        """
        starts = self._starts
        # Equal stamps are as good as each other; and one that is not there any more was older than a period.
        if stamp not in starts:
            return
        last = starts[-1]
        starts.remove(stamp)
        if self._dropped and self._period > self._shortest_period:
            # When it was dropped another had started, at least a period after it: the last one, at the latest.
            self._dropped -= 1
            latest = _one_period_before(last, self._shortest_period)
            starts.appendleft(min(starts[0], latest) if starts else latest)

    def has_room(self, now: float) -> bool:
        """True if a call may start *now*."""
        starts, limit = self._starts, self._max_calls
        return len(starts) < limit or now >= _one_period_after(starts[-limit], self._period)

    def ready_at(self, place: int, now: float) -> float:
        """When the waiter at *place*, counted from 0, can start, if nothing changes until then."""
        # He starts one period after the one who is max_calls starts before him: a start that is
        # logged, or that of another waiter, for whom the same holds.
        starts, limit = self._starts, self._max_calls
        before = len(starts) + place - limit
        if before < 0:
            return now
        others = max(0, (before - len(starts)) // limit + 1)
        before -= others * limit
        first = now if before < 0 else max(now, _one_period_after(starts[before], self._period))
        return first + others * self._period

    def change(self, max_calls: int, period: float, now: float) -> None:
        """
        Hold another limit from *now* on, and remember what has started until now.

        A window of the new *period* in which a call starts after the change holds at most *max_calls* starts, those
        before the change included. Only a window whose starts were all before it may hold more: the old limit's.

        Where the new limit asks for more starts than the log holds, those that it has dropped count as made as late
        as the limits until now allowed: so the next start may come later than it need, but never too early.
        """
        starts = self._starts
        known = self._with_dropped(max_calls, now) if self._dropped else starts
        self._dropped -= len(known) - len(starts)
        self._starts = deque(known, maxlen=max(max_calls, starts.maxlen or 0))
        self._max_calls, self._period = max_calls, period
        self._shortest_period = min(self._shortest_period, period)

    def _with_dropped(self, max_calls: int, now: float) -> list[float]:
        """The starts that it holds, and before them the latest possible moments of those that it has dropped."""
        # Each start was at least one period after the one that is a whole log before it, and so will the next ones
        # be, at the earliest from now on. Newest first, so that this one is a whole log before the end of the list.
        longest = self._starts.maxlen or 0
        to_come = [now] * (longest - len(self._starts))
        moments = [*to_come, *reversed(self._starts)]
        for _ in range(min(self._dropped, max_calls - len(self._starts))):
            moments.append(min(moments[-1], _one_period_before(moments[-longest], self._shortest_period)))
        return moments[len(to_come) :][::-1]


def _one_period_before(moment: float, period: float) -> float:
    """The last moment after which a *period* is over at *moment*, as :func:`_one_period_after` has it: by bisection."""
    margin = 2 * math.ulp(max(abs(moment), period))
    low, high = moment - period - margin, moment - period + margin
    while (middle := low + (high - low) / 2) not in (low, high):
        low, high = (middle, high) if _one_period_after(middle, period) <= moment else (low, middle)
    return low


def _one_period_after(moment: float, period: float) -> float:
    """The first moment that is at least *period* after *moment*, whichever way floats round."""
    after = moment + period
    return after if after - moment >= period else math.nextafter(after, inf)
