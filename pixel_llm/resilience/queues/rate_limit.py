"""The rate limit: how many calls may start in any window of time, and who starts next."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

from pixel_llm.errors import ErrorCode, LimitExceeded, TimeoutError
from pixel_llm.events.trouble import report_trouble
from pixel_llm.policy import RateLimitConfig, format_duration
from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock
from pixel_llm.resilience.discarding import discard
from pixel_llm.resilience.queues.fair_queue import LONGEST_WAIT, FairQueue, TaskWaiter, ThreadWaiter, Waiter
from pixel_llm.resilience.queues.start_log import StartLog
from pixel_llm.resilience.queues.token_bucket import TokenBucket, checked_tokens, count_tokens


class RateLimit(FairQueue):
    """
    At most ``max_calls`` starts in *every* window of ``period`` seconds; who comes too early queues.

    A log of the last ``max_calls`` starts is kept, made for the first call: 32 bytes each. The queue is bounded too:
    a call whose turn comes later than ``max_wait`` is refused at once, so at most ``max_calls · (max_wait / period +
    1)`` wait. A token bucket would let twice ``max_calls`` through in one window.

    First come, first served, for threads and tasks of any event loop together. What is logged is the moment of
    the admission. A call that then has to wait for something else enters again, with its *old* stamp, when it can
    really begin: its start moves there. Safe for concurrent use; no lock is held while a call runs or waits.

    Args:
        name: What messages call it, usually the target.
        config: Its limits; durations are seconds.
        clock: Where time comes from.
        usage: Gives the tokens that a result has used, or None if it doesn't say; for ``tokens``.
    """

    __slots__ = ("_clock", "_complained", "_log", "_usage", "config", "name", "tokens")

    def __init__(
        self,
        name: str,
        config: RateLimitConfig,
        *,
        clock: Clock = SYSTEM_CLOCK,
        usage: Callable[[Any], float | None] = count_tokens,
    ) -> None:
        self.name = name
        self.config = config
        self._clock = clock
        self._usage = usage
        self._complained = False
        self.tokens = TokenBucket(config.tokens, clock.monotonic()) if config.tokens is not None else None
        # Made for the first call: many targets are never called.
        self._log: StartLog | None = None
        super().__init__()

    @property
    def starts(self) -> tuple[float, ...]:
        """The moments of the last starts that the log still holds, in order."""
        return () if self._log is None else self._log.starts

    def try_enter(self) -> float | None:
        """Start now if the limit allows it and nobody waits: the start's stamp, else None. Never waits."""
        with self._lock:
            now = self._clock.monotonic()
            stamp = None
            if not self._waiters and self._has_room(now):
                self._start(now)
                stamp = now
        if self._mail:
            self._tidy()
        return stamp

    def enter(self, until: float = inf, *, max_wait: float | None = None, old: float | None = None) -> float:
        """
        Start, when it is this call's turn; wait for it in the calling thread if need be.

        Args:
            until: The moment of the call's deadline.
            max_wait: Seconds to wait at most; the config's unless told otherwise.
            old: The stamp of a start that is given up for this one, now: it is this call's turn next.

        Returns:
            The start's stamp, for :meth:`cancel`, or to be moved by entering again.

        Raises:
            LimitExceeded: If its turn would come after ``max_wait`` or the deadline; it isn't waited for.
            TimeoutError: If the deadline has passed.
        """
        waiter = ThreadWaiter()
        clock = self._clock
        really = _waits_really(clock)
        try:
            for seconds in self._waits(waiter, until, max_wait, old):
                if really:
                    waiter.wait(seconds)
                else:
                    clock.sleep(seconds)
        except BaseException:
            self._give_back(waiter)
            raise
        return waiter.stamp

    async def enter_async(
        self, until: float = inf, *, max_wait: float | None = None, old: float | None = None
    ) -> float:
        """Like :meth:`enter`, but the calling task waits."""
        waiter = TaskWaiter()
        clock = self._clock
        really = _waits_really(clock)
        try:
            for seconds in self._waits(waiter, until, max_wait, old):
                if really:
                    await waiter.wait(seconds)
                else:
                    await clock.sleep_async(seconds)
        except BaseException:
            self._give_back(waiter)
            raise
        return waiter.stamp

    def cancel(self, stamp: float) -> None:
        """Forget the start at *stamp*: there was none after all. Never blocks."""
        self._give_back(stamp)

    def charge(self, result: Any) -> None:
        """
        Take the tokens that *result* says its call has used from the bucket, if there is one. Never blocks.

        The call has succeeded: if nobody can tell what it used, the log says so, once, and the result stands.
        """
        if self.tokens is None:
            return
        try:
            used = self._usage(result)
            discard(used)
            tokens = checked_tokens(used)
        except Exception:  # noqa: BLE001 - the function is somebody else's
            self._cannot_tell()
        else:
            self._give_back((tokens,))

    def _cannot_tell(self) -> None:
        if not self._complained:
            self._complained = True
            report_trouble(
                "%s: its token limit does nothing for results that don't say what they used: name a usage function",
                self.name,
                level=logging.WARNING,
            )

    def go_on_as(self, new: RateLimit) -> None:
        """
        Hold the limits of *new*, which nobody uses yet, from now on; a policy that was loaded again has them.

        What has started and what was charged stays: a window of the new ``period`` in which a call starts after the
        change holds at most the new ``max_calls``, see :meth:`StartLog.change`; the bucket keeps its level, see
        :meth:`TokenBucket.change`. A limit that was not there before, on calls or on tokens, counts from now on.
        Those who wait go on in their order, each as long as he meant to; one whose turn would now come later than
        that is refused at once. Results of calls under way are charged by the new ``usage``.
        """
        with self._lock:
            woken = self._settle()
            now = self._clock.monotonic()
            config, self._usage = new.config, new._usage
            self.config, self._complained = config, False
            if self.tokens is not None and config.tokens is not None:
                self.tokens.change(config.tokens, now)
            else:
                self.tokens = new.tokens
            if config.max_calls is None:
                self._log = None
            elif self._log is not None:
                self._log.change(config.max_calls, config.period, now)
            woken += self._settle()
            # Whoever waits on looks anew when his turn comes; each once.
            woken += [waiter for waiter in self._waiters if waiter not in woken]
        self._wake(woken)
        self._tidy()

    def left_to_wait(self, waited: float) -> float:
        """What is left of ``max_wait`` for a call that has *waited* so many seconds already."""
        return max(0.0, self.config.max_wait - waited)

    def _waits(self, waiter: Waiter, until: float, max_wait: float | None, old: float | None) -> Iterator[float]:
        """Queue *waiter*; yield the seconds to wait for his turn or a waking, again and again, until he has started."""
        now = self._clock.monotonic()
        allowed = self.config.max_wait if max_wait is None else max_wait
        ends = min(until, now + allowed)
        joined = False
        while True:
            with self._lock:
                if not joined:
                    if old is not None:
                        self._forget(old)
                    self._join(waiter, first=old is not None)
                    joined = True
                woken = self._settle()
                now = self._clock.monotonic()
                ready, too_late = now, False
                if not waiter.granted:
                    ready = waiter.planned = self._ready_at(self._place_of(waiter), now)
                    # Whose turn comes at the deadline itself could not begin any more.
                    too_late = ready > ends or ready >= until
                    if too_late:
                        self._drop(waiter)
            self._wake(woken)
            self._tidy()
            if waiter.granted:
                waiter.settled = True
                return
            if now >= until:
                raise self._too_late()
            if too_late:
                raise self._refusal(ready - now, at_deadline=ready >= until)
            yield ready - now

    def _settle(self) -> list[Waiter]:
        while self._mail:
            item = self._mail.pop()
            if isinstance(item, tuple):
                if self.tokens is not None:  # the limit may have lost it meanwhile
                    self.tokens.spend(item[0], self._clock.monotonic())
            elif not isinstance(item, Waiter):
                self._forget(item)
            elif not item.settled:
                item.settled = True
                if item.granted:
                    self._forget(item.stamp)
                else:
                    self._drop(item)
        woken: list[Waiter] = []
        now = self._clock.monotonic()
        while self._waiters and self._has_room(now):
            waiter: Waiter = self._waiters.popleft()
            self._start(now)
            waiter.stamp = now
            waiter.granted = True
            woken.append(waiter)
        # Who is first now may have planned to look later than his turn comes.
        if self._waiters:
            head: Waiter = self._waiters[0]
            ready = self._ready_at(0, now)
            if head.planned > ready and head.planned < inf:
                head.planned = ready
                woken.append(head)
        return woken

    def _has_room(self, now: float) -> bool:
        if self._log is not None and not self._log.has_room(now):
            return False
        return self.tokens is None or self.tokens.level(now) > 0

    def _ready_at(self, place: int, now: float) -> float:
        """When the waiter at *place*, counted from 0, can start, if nothing changes until then."""
        ready = now if self.tokens is None else self.tokens.ready_at(now)
        return ready if self._log is None else max(ready, self._log.ready_at(place, now))

    def _place_of(self, waiter: Waiter) -> int:
        return self._waiters.index(waiter)

    def _start(self, now: float) -> None:
        if self._log is not None:
            self._log.add(now)
        elif self.config.max_calls is not None:
            self._log = StartLog(self.config.max_calls, self.config.period)
            self._log.add(now)

    def _forget(self, stamp: float) -> None:
        if self._log is not None:
            self._log.forget(stamp)

    def _too_late(self) -> TimeoutError:
        text = "the deadline has passed while the call waited for its turn under the rate limit"
        return TimeoutError(text, error_code=ErrorCode.ERR_TIMEOUT_DEADLINE, target=self.name)

    def _refusal(self, wait: float, *, at_deadline: bool) -> LimitExceeded:
        limit = "the deadline" if at_deadline else f"max_wait, {format_duration(self.config.max_wait)}"
        text = (
            f"the rate limit of {self.config.limit_in_words()} holds this call back: its turn comes in {wait:.3g} s, "
            f"after {limit}; send fewer calls, or raise rate_limit"
        )
        details = {"waiting": len(self._waiters)}
        code = ErrorCode.ERR_LIMIT_RATE
        return LimitExceeded(text, error_code=code, target=self.name, details=details, retry_after=wait)


def _waits_really(clock: Clock) -> bool:
    """False for a clock that a test moves: such a wait is a sleep, which moves it on."""
    return clock.patience(LONGEST_WAIT) == LONGEST_WAIT
