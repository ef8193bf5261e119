"""Leaving out most of many records that say the same."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from pixel_llm.policy import SamplingConfig
from pixel_llm.resilience.threads.forking import forget_after_fork

#: So many different records are told apart; the ones not seen for longest are forgotten first.
MOST_KEYS = 1000


class Sampling:
    """
    Says which records are written. Safe for concurrent use.

    Args:
        config: How many.
        clock: Gives seconds that only grow.

    Attributes:
        left_out: How many records have been left out so far.
    """

    def __init__(self, config: SamplingConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = config.every
        self._period = config.period
        self._clock = clock
        # By what a record says: when its period began, how many there were in it, how many were left out untold.
        self._seen: OrderedDict[Hashable, tuple[float, int, int]] = OrderedDict()
        self.left_out = 0
        self._forgotten = 0
        self._lock = threading.RLock()
        forget_after_fork(self)

    def take(self, key: Hashable) -> int | None:
        """
        Count a record that says *key*.

        Returns:
            None if it is to be left out, else how many such records were left out since the last one that was written.
        """
        now = self._clock()
        with self._lock:
            began, count, left_out = self._seen.pop(key, (now, 0, 0))
            if now - began >= self._period:
                began, count = now, 0
            written = count % self._every == 0
            self._seen[key] = (began, count + 1, 0 if written else left_out + 1)
            if not written:
                self.left_out += 1
            if len(self._seen) > MOST_KEYS:
                self._forgotten += self._seen.popitem(last=False)[1][2]
        return left_out if written else None

    def untold(self) -> int:
        """How many records were left out of which no record tells; from now on they count as told."""
        with self._lock:
            untold = self._forgotten + sum(left_out for _, _, left_out in self._seen.values())
            self._forgotten = 0
            self._seen.clear()
        return untold

    def forget(self) -> None:
        """Begin anew in a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.RLock()
        self._seen = OrderedDict()
        self.left_out = self._forgotten = 0
