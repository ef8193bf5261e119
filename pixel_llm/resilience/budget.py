"""
The retry budget: how many retries there may be in all.

Retries help against a failure here and there. Against an outage they only add to the load, so a budget
grants them in proportion to the calls (Finagle's `RetryBudget`, Envoy's `retry_budget`).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from pixel_llm.policy import RetryBudgetConfig
from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock

#: Into so many slots a window is divided: what a budget can tell apart is 1/64 of its window.
SLOTS = 64


class CallSource:
    """
    Where the calls of one target are counted: its successes by whoever *read* asks, its failures here.

    *read* gives the calls that have succeeded at their first attempt so far. It must not block.
    """

    __slots__ = ("__weakref__", "read", "seen")

    def __init__(self, read: Callable[[], int]) -> None:
        self.read = read
        self.seen = read()


class RetryBudget:
    """
    A budget of retries, for one target or shared by several. Safe for concurrent use.

    A retry is granted while the retries granted within the last window stay within
    ``max(min_retries, ratio · calls)`` of the same window. How exact that is:

    - Retries are counted exactly, under a lock, and never too few: a window reaches back for up to 1/64 more.
    - Calls whose first attempt failed are counted exactly, at the moment it did.
    - Calls that succeeded are on the shortest road, which tells nobody. Their number is read from the target's own
      counter when the budget is next asked, so all of them are counted, but not to the moment: those between two
      looks are taken to have come evenly. The number is exact while something fails at least once in 1/64 of the
      window, and where calls come evenly; after a quiet stretch it is the average of that stretch. The target that
      asks is looked at each time, others at most 64 times a window.

    Memory and time of an answer do not grow with the number of calls.

    Args:
        config: Ratio, window (seconds) and floor.
        clock: Where time comes from.
        name: What messages call it; a target's own budget has none.
    """

    def __init__(self, config: RetryBudgetConfig, *, clock: Clock = SYSTEM_CLOCK, name: str = "") -> None:
        self.config = config
        self.name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._width = config.window / SLOTS
        self._sources: weakref.WeakSet[CallSource] = weakref.WeakSet()
        # A ring: slot n holds what happened in n·width … (n+1)·width, at n modulo its length. It has a slot more than
        # a window, for the oldest one, which is only partly within it.
        self._calls = [0.0] * (SLOTS + 1)
        self._retries = [0] * (SLOTS + 1)
        self._looked_at = clock.monotonic()
        self._slot = self._slot_of(self._looked_at)

    def watch(self, read: Callable[[], int]) -> CallSource:
        """
        Count the calls of another target, too, for as long as what is returned is kept.

        Args:
            read: Gives how many of its calls have succeeded at their first attempt so far.
        """
        source = CallSource(read)
        with self._lock:
            self._sources.add(source)
        return source

    def count_call(self, source: CallSource) -> None:
        """Count a call of the target of *source* whose first attempt has failed."""
        with self._lock:
            self._look(source)
            self._calls[self._slot % (SLOTS + 1)] += 1

    def take(self, source: CallSource) -> bool:
        """Take a retry for a call of the target of *source*; False if there is none left."""
        with self._lock:
            self._look(source)
            if self._granted() + 1 > self._allowed():
                return False
            self._retries[self._slot % (SLOTS + 1)] += 1
            return True

    def left(self) -> int:
        """How many retries would be granted now."""
        with self._lock:
            self._look(*self._sources)
            return max(0, int(self._allowed()) - self._granted())

    def in_words(self) -> str:
        """Which budget it is, and what it allows."""
        return f"{self.name + ': ' if self.name else ''}{self.config.in_words()}"

    def _slot_of(self, moment: float) -> int:
        return int(moment // self._width)

    def _granted(self) -> int:
        return sum(self._retries)

    def _allowed(self) -> float:
        # Of the oldest slot a part has left the window: its retries still count, its calls no longer do.
        calls = sum(self._calls) - self._calls[(self._slot + 1) % (SLOTS + 1)]
        # A grain more: a sum of fractions of calls may lie just below the whole number that it is.
        return max(float(self.config.min_retries), self.config.ratio * calls + 1e-6)

    def _look(self, *sources: CallSource) -> None:
        """Let the time go on to now, and take the calls that have succeeded since the last look."""
        now = self._clock.monotonic()
        slot = self._slot_of(now)
        if slot > self._slot:
            sources = tuple(self._sources)
            for number in range(max(self._slot + 1, slot - SLOTS), slot + 1):
                self._calls[number % (SLOTS + 1)] = 0.0
                self._retries[number % (SLOTS + 1)] = 0
        calls = 0
        for source in sources:
            count = source.read()
            calls += count - source.seen
            source.seen = count
        first, since = self._slot, self._looked_at
        self._slot, self._looked_at = max(slot, self._slot), max(now, since)
        if calls:
            self._spread(calls, since, first)

    def _spread(self, calls: int, since: float, first: int) -> None:
        """Add *calls* that came evenly from *since*, which lies in the slot *first*, until now."""
        now, slot = self._looked_at, self._slot
        if first == slot:
            self._calls[slot % (SLOTS + 1)] += calls
            return
        rate = calls / (now - since)
        for number in range(max(first, slot - SLOTS), slot + 1):
            begins, ends = max(since, number * self._width), min(now, (number + 1) * self._width)
            self._calls[number % (SLOTS + 1)] += rate * max(0.0, ends - begins)
