"""The bulkhead: how many calls may be under way at once, and who comes next."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any

from pixel_llm.errors import ErrorCode, LimitExceeded, TimeoutError
from pixel_llm.policy import BulkheadConfig
from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock
from pixel_llm.resilience.queues.adaptive import AdaptiveLimit
from pixel_llm.resilience.queues.fair_queue import FairQueue, TaskWaiter, ThreadWaiter, Waiter


class Bulkhead(FairQueue):
    """
    At most so many calls at once; who comes later queues, first come, first served.

    One object serves threads and tasks of any event loop together. A slot that becomes free goes straight to
    the one who has waited longest: nobody can take it from him. If he has given up in the same moment, it goes
    to the next. Safe for concurrent use; no lock is held while a call runs or waits.

    Args:
        name: What messages call it, usually the target.
        config: Its limits; durations are seconds.
        clock: Where time comes from.
    """

    __slots__ = ("_clock", "_free", "_limit", "_slots", "adaptive", "config", "name")

    def __init__(self, name: str, config: BulkheadConfig, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.name = name
        self.config = config
        self._clock = clock
        self._limit = config.max_concurrent
        self.adaptive: AdaptiveLimit | None = None
        if config.adaptive is not None:
            self.adaptive = AdaptiveLimit(config.adaptive, config.max_concurrent)
            self._limit = self.adaptive.limit
        super().__init__()

    @property
    def in_use(self) -> int:
        """How many calls are under way."""
        return self._slots - len(self._free)

    @property
    def limit(self) -> int:
        """How many may be: ``max_concurrent``, or less if it is adaptive."""
        return self._limit

    def try_enter(self) -> bool:
        """Take a slot if one is free and nobody waits for it. Never waits."""
        if self._waiters:
            return False
        try:
            self._free.pop()  # atomic: while all is well no lock is taken
        except IndexError:
            with self._lock:
                made = self._slots < self._limit and not self._waiters
                if made:
                    self._slots += 1
            self._tidy()
            return made
        if self._slots > self._limit:  # the limit has sunk since it came free: it goes
            self._give_back(None)
            return False
        return True

    def enter(self, until: float = inf) -> None:
        """
        Take a slot; wait for it in the calling thread if need be.

        Args:
            until: The moment of the call's deadline.

        Raises:
            LimitExceeded: If the queue is full, or ``max_wait`` has passed.
            TimeoutError: If the deadline has passed.
        """
        if self.try_enter():
            return
        waiter = ThreadWaiter()
        try:
            for seconds in self._waits(waiter, until):
                waiter.wait(seconds)
        except BaseException:
            self._give_back(waiter)
            raise

    async def enter_async(self, until: float = inf) -> None:
        """Like :meth:`enter`, but the calling task waits."""
        if self.try_enter():
            return
        waiter = TaskWaiter()
        try:
            for seconds in self._waits(waiter, until):
                await waiter.wait(seconds)
        except BaseException:
            self._give_back(waiter)
            raise

    def leave(self, elapsed: float | None = None, ok: bool | None = None) -> None:
        """
        Give the slot back, once, when the call has really ended. Never blocks.

        Args:
            elapsed: Seconds that the call took at the target; None if it never got there.
            ok: True if it succeeded, False if the target was overloaded (see :func:`is_drop`), None if it
                proved nothing. Both are for adaptive limits.
        """
        if self.adaptive is not None:
            self._give_back((elapsed, ok))
            return
        if len(self._free) < self._slots:  # else it was taken before a fork, in the parent
            self._free.append(None)
        # Whoever joins looks at the free slots afterwards: one of the two sees the other.
        if self._waiters or self._slots > self._limit:
            self._tidy()

    def go_on_as(self, config: BulkheadConfig) -> None:
        """
        Hold the limits of *config* from now on; a policy that was loaded again has them.

        Calls that are under way count until they end, so after a limit has sunk nobody gets a slot until enough of
        them have. Those who wait go on in their order, each as long as he meant to; where the limit has risen the
        first of them begin at once. An adaptive limit goes on from where it was, within its new bounds.
        """
        adaptive = None
        with self._lock:
            if config.adaptive is not None:
                adaptive = AdaptiveLimit(config.adaptive, config.max_concurrent)
                if self.adaptive is not None:
                    adaptive.go_on_from(self.adaptive)
            self.config, self.adaptive = config, adaptive
            self._limit = config.max_concurrent if adaptive is None else adaptive.limit
            woken = self._settle()
        self._wake(woken)
        self._tidy()

    def _waits(self, waiter: Waiter, until: float) -> Iterator[float]:
        """Queue *waiter*; yield the seconds to wait for a waking, again and again, until he has got a slot."""
        now = self._clock.monotonic()
        max_wait = self.config.max_wait
        ends = until if max_wait is None else min(until, now + max_wait)
        with self._lock:
            self._join(waiter)
            woken = self._settle()
            if refused := not waiter.granted and len(self._waiters) > self.config.max_waiting:
                self._drop(waiter)
        self._wake(woken)
        self._tidy()
        if refused:
            raise self._refusal("the bulkhead is full")
        while not waiter.granted:
            remaining = ends - self._clock.monotonic()
            if remaining <= 0:
                if self._leaves_empty_handed(waiter):
                    raise self._too_late(None if ends == until else max_wait)
                break
            yield self._clock.patience(remaining)
        waiter.settled = True

    def _leaves_empty_handed(self, waiter: Waiter) -> bool:
        """End the wait of *waiter*, whose time is up; False if he has got a slot in the last moment."""
        with self._lock:
            if not waiter.granted:
                self._drop(waiter)
        self._tidy()
        return not waiter.granted

    def _is_untidy(self) -> bool:
        return bool(self._mail) or bool(self._free and (self._waiters or self._slots > self._limit))

    def _settle(self) -> list[Waiter]:
        while self._mail:
            self._take_back(self._mail.pop(0))
        self._trim()
        woken: list[Waiter] = []
        while self._waiters and self._has_slot():
            waiter: Waiter = self._waiters.popleft()
            waiter.granted = True
            woken.append(waiter)
        return woken

    def _take_back(self, item: Any) -> None:
        if isinstance(item, Waiter):
            if item.settled:
                return
            item.settled = True
            if not item.granted:
                self._drop(item)
                return
        if self.adaptive is not None and isinstance(item, tuple):
            self._limit = self.adaptive.sample(*item, in_use=self.in_use, now=self._clock.monotonic())
        if self._slots > self._limit:  # the limit has sunk, so the slot goes
            self._slots -= 1
        elif len(self._free) < self._slots:
            self._free.append(None)
        self._trim()

    def _trim(self) -> None:
        """Do away with free slots that are beyond the limit."""
        while self._slots > self._limit:
            try:
                self._free.pop()
            except IndexError:
                return
            self._slots -= 1

    def _has_slot(self) -> bool:
        """Take a slot for the first who waits: a free one, else a new one."""
        if self._slots > self._limit:  # one that came free just now goes
            return False
        try:
            self._free.pop()
        except IndexError:
            if self._slots >= self._limit:
                return False
            self._slots += 1
        return True

    def forget(self) -> None:
        """Forget all calls under way and all who wait."""
        super().forget()
        # Slots are made as they are needed, up to the limit; those that nobody uses are in the list.
        self._slots = 0
        self._free: list[None] = []

    def _too_late(self, max_wait: float | None) -> LimitExceeded | TimeoutError:
        if max_wait is None:
            text = "the deadline has passed while the call waited for a slot of the bulkhead"
            code = ErrorCode.ERR_TIMEOUT_DEADLINE
            return TimeoutError(text, error_code=code, target=self.name, details=self._details())
        return self._refusal(f"the bulkhead had no slot within max_wait, {max_wait:g} s")

    def _refusal(self, what: str) -> LimitExceeded:
        details = self._details()
        text = (
            f"{what}: {details['in_use']} under way (limit {details['limit']}), {details['waiting']} waiting; "
            "send fewer calls at once, or raise max_concurrent, max_waiting or max_wait"
        )
        return LimitExceeded(text, error_code=ErrorCode.ERR_LIMIT_BULKHEAD, target=self.name, details=details)

    def _details(self) -> dict[str, int]:
        return {"in_use": self.in_use, "limit": self._limit, "waiting": len(self._waiters)}
