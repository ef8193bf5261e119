"""
The retry budget: how many retries there may be in all.

Retries help against a failure here and there. Against an outage they only add to the load, so a budget
grants them in proportion to the calls (Finagle's `RetryBudget`, Envoy's `retry_budget`).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping

from pixel_llm.errors import ValidationError
from pixel_llm.policy import RetryBudgetConfig
from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock

#: Into so many slots a window is divided: what a budget can tell apart is 1/64 of its window.
SLOTS = 64


class BudgetShare:
    """
    What one target has to do with its budget. Safe for concurrent use.

    *read* gives the calls that have succeeded at their first attempt so far. It must not block.
    """

    __slots__ = ("__weakref__", "budget", "read", "seen")

    def __init__(self, budget: RetryBudget, read: Callable[[], int]) -> None:
        self.budget = budget
        self.read = read
        self.seen = read()

    def count_call(self) -> None:
        """Count a call whose first attempt has failed."""
        self.budget.count_call()

    def take(self) -> bool:
        """Take a retry; False if there is none left."""
        return self.budget.take(self)

    def is_as(self, other: BudgetShare) -> bool:
        """True if *other* has to do with the same budget, or with one of its own that is like this one."""
        ours, theirs = self.budget, other.budget
        return ours is theirs or (not ours.name and not theirs.name and ours.config == theirs.config)

    def unseen(self) -> int:
        """The calls that have succeeded since this was asked last."""
        before, self.seen = self.seen, self.read()
        return self.seen - before


class RetryBudget:
    """
    A budget of retries, for one target or shared by several. Safe for concurrent use.

    A retry is granted while the retries granted within the last window stay within
    ``max(min_retries, ratio · calls)`` of the same window. How exact that is:

    - Retries are counted exactly, under a lock, and never too few: for them a window is up to 1/64 longer.
    - Calls whose first attempt failed are counted exactly, at the moment it did.
    - Calls that succeeded are on the shortest road, which tells nobody. Their number is read from the targets' own
      counters, so all of them are counted, but not to the moment: those between two looks are taken to have come
      evenly. All targets are looked at when the budget is used for the first time in 1/64 of a window, and the one
      that asks once more before it is refused. So the number is exact to 1/64 of a window while something fails now
      and then, and where calls come evenly; after a quiet stretch it is the average of that stretch.

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
        self._shares: weakref.WeakSet[BudgetShare] = weakref.WeakSet()
        # Rings: slot n holds what happened in n·width … (n+1)·width, at n modulo their length. They have a slot more
        # than a window, for the oldest one, which is only partly within it.
        self._calls = [0.0] * (SLOTS + 1)
        self._retries = [0] * (SLOTS + 1)
        self._looked_at = clock.monotonic()
        self._slot = int(self._looked_at // self._width)

    def share(self, read: Callable[[], int]) -> BudgetShare:
        """
        Let another target use this budget, for as long as what is returned is kept.

        Args:
            read: Gives how many of its calls have succeeded at their first attempt so far.
        """
        share = BudgetShare(self, read)
        with self._lock:
            self._shares.add(share)
        return share

    def count_call(self) -> None:
        """Count a call whose first attempt has failed."""
        with self._lock:
            self._go_on()
            self._calls[self._slot % (SLOTS + 1)] += 1

    def take(self, share: BudgetShare) -> bool:
        """Take a retry for a call of the target of *share*; False if there is none left."""
        with self._lock:
            self._go_on()
            if not self._has_one():
                self._calls[self._slot % (SLOTS + 1)] += share.unseen()
                if not self._has_one():
                    return False
            self._retries[self._slot % (SLOTS + 1)] += 1
            return True

    def left(self) -> int:
        """How many retries would be granted now."""
        with self._lock:
            self._go_on()
            self._calls[self._slot % (SLOTS + 1)] += sum(share.unseen() for share in self._shares)
            return max(0, int(self._allowed()) - sum(self._retries))

    def used(self) -> tuple[int, float]:
        """The retries granted within the last window, and how many may be; the calls as of 1/64 of a window ago."""
        with self._lock:
            self._go_on()
            return sum(self._retries), self._allowed()

    def in_words(self) -> str:
        """Which budget it is, and what it allows."""
        return f"{self.name + ': ' if self.name else ''}{self.config.in_words()}"

    def _has_one(self) -> bool:
        return sum(self._retries) + 1 <= self._allowed()

    def _allowed(self) -> float:
        # Of the oldest slot a part has left the window: its retries still count, its calls no longer do.
        calls = sum(self._calls) - self._calls[(self._slot + 1) % (SLOTS + 1)]
        # A grain more: a sum of fractions of calls may lie just below the whole number that it is.
        return max(float(self.config.min_retries), self.config.ratio * calls + 1e-6)

    def _go_on(self) -> None:
        """Let the time go on to now; in a new slot, look at the calls that have succeeded since the last look."""
        now = self._clock.monotonic()
        slot, last = int(now // self._width), self._slot
        if slot <= last:
            return
        for number in range(max(last + 1, slot - SLOTS), slot + 1):
            self._calls[number % (SLOTS + 1)] = 0.0
            self._retries[number % (SLOTS + 1)] = 0
        since, self._slot, self._looked_at = self._looked_at, slot, now
        rate = sum(share.unseen() for share in self._shares) / (now - since)
        for number in range(max(last, slot - SLOTS), slot + 1) if rate else ():
            begins, ends = max(since, number * self._width), min(now, (number + 1) * self._width)
            self._calls[number % (SLOTS + 1)] += rate * max(0.0, ends - begins)


def share_budget(
    target: str,
    budget: RetryBudgetConfig | str | None,
    budgets: Mapping[str, RetryBudget],
    clock: Clock,
    read: Callable[[], int],
) -> BudgetShare | None:
    """
    What *target* has to do with the *budget* of its policy: one of its own, or the name of one of *budgets*.

    Raises:
        ValidationError: If there is none of that name.
    """
    if budget is None:
        return None
    if isinstance(budget, RetryBudgetConfig):
        return RetryBudget(budget, clock=clock).share(read)
    if budget not in budgets:
        raise ValidationError(f"there is no retry budget {budget!r}: give it with budgets=", target=target)
    return budgets[budget].share(read)
