"""
What an attempt passes before it begins, where calls may have to queue.

::

    breaker: refuses now?  →  rate limit  →  bulkhead  →  rate limit again, if it waited  →  breaker's permit
"""

from __future__ import annotations

import inspect
from itertools import count
from math import inf
from typing import Any, Protocol

from pixel_llm.errors import ErrorCode, TimeoutError, ValidationError
from pixel_llm.policy import TargetPolicy
from pixel_llm.resilience.breaker.no_breaker import NO_BREAKER
from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock
from pixel_llm.resilience.queues.bulkhead import Bulkhead
from pixel_llm.resilience.queues.rate_limit import RateLimit
from pixel_llm.resilience.queues.token_bucket import count_tokens
from pixel_llm.resilience.registry import FindFunction


class Gate(Protocol):
    """What admission needs of a circuit breaker."""

    @property
    def closed_period(self) -> int:
        """At least 0 while calls pass freely: then it is their permit. Else -1."""

    def check(self) -> None:
        """Raise CircuitBreakerOpen if a call would be refused now. Takes no permit."""

    def acquire(self) -> int:
        """A permit, or CircuitBreakerOpen."""


class Admission:
    """
    The admission of the attempts of one target. Safe for concurrent use.

    An open breaker refuses before anything queues. It is asked again when the bulkhead's slot is there, and only
    then gives a permit, so a half-open breaker's permits are never held by those who queue. Whatever ends an
    admission in between (a refusal, the deadline, cancellation) gives back all that it has got so far.

    Args:
        target: What messages call it.
        clock: Where time comes from.
        rate_limit: Its rate limit, if it has one.
        bulkhead: Its bulkhead, if it has one.
    """

    __slots__ = ("_clock", "_target", "bulkhead", "rate_limit")

    def __init__(
        self,
        target: str,
        *,
        clock: Clock = SYSTEM_CLOCK,
        rate_limit: RateLimit | None = None,
        bulkhead: Bulkhead | None = None,
    ) -> None:
        self._target = target
        self._clock = clock
        self.rate_limit = rate_limit
        self.bulkhead = bulkhead

    def go_on_from(self, before: Admission) -> None:
        """
        Take over the rate limit and the bulkhead of *before*, with the limits of this one from now on.

        Calls that have entered there leave there: it is the same bulkhead. Nobody may have entered here yet.
        """
        if self.rate_limit is not None and before.rate_limit is not None:
            before.rate_limit.go_on_as(self.rate_limit)
            self.rate_limit = before.rate_limit
        if self.bulkhead is not None and before.bulkhead is not None:
            before.bulkhead.go_on_as(self.bulkhead.config)
            self.bulkhead = before.bulkhead

    def enter_now(self, gate: Gate = NO_BREAKER) -> int | None:
        """
        Let an attempt begin if it needs not wait.

        Args:
            gate: The circuit breaker of the call; without it there is none.

        Returns:
            What :meth:`enter` does; None if that one must wait.

        Raises:
            CircuitBreakerOpen: If the breaker refuses.
        """
        rate_limit, bulkhead = self.rate_limit, self.bulkhead
        if gate.closed_period < 0:
            gate.check()
        stamp = None
        if rate_limit is not None:
            stamp = rate_limit.try_enter()
            if stamp is None:
                return None
        if bulkhead is not None and not bulkhead.try_enter():
            self._undo(stamp, False)
            return None
        permit = gate.closed_period
        return permit if permit >= 0 else self._permit(gate, stamp)

    def enter(self, until: float = inf, gate: Gate = NO_BREAKER) -> int:
        """
        Let an attempt begin; wait in the calling thread for its turn and for a slot.

        Args:
            until: The moment of the call's deadline.
            gate: The circuit breaker of the call; without it there is none.

        Returns:
            The breaker's permit, 0 without a breaker; :meth:`leave` must follow.

        Raises:
            CircuitBreakerOpen: If the breaker refuses.
            LimitExceeded: If the rate limit or the bulkhead does.
            TimeoutError: If the deadline passes while it waits.
        """
        permit = self.enter_now(gate)
        return permit if permit is not None else self.queue(until, gate)

    async def enter_async(self, until: float = inf, gate: Gate = NO_BREAKER) -> int:
        """Like :meth:`enter`, but the calling task waits."""
        permit = self.enter_now(gate)
        return permit if permit is not None else await self.queue_async(until, gate)

    def queue(self, until: float, gate: Gate = NO_BREAKER) -> int:
        """What :meth:`enter` does where :meth:`enter_now` could not let the attempt begin."""
        rate_limit, bulkhead = self.rate_limit, self.bulkhead
        stamp, has_slot, began = None, False, self._clock.monotonic()
        try:
            if rate_limit is not None:
                stamp = rate_limit.enter(until)
            turn = self._clock.monotonic()
            if bulkhead is not None:
                bulkhead.enter(until)
                has_slot = True
            self._check_time(until)
            if rate_limit is not None:
                # Given up before it is asked for anew: whatever happens, it isn't given up twice.
                old, stamp = stamp, None
                stamp = rate_limit.enter(until, max_wait=rate_limit.left_to_wait(turn - began), old=old)
                self._check_time(until)
        except BaseException:
            self._undo(stamp, has_slot)
            raise
        return self._permit(gate, stamp)

    async def queue_async(self, until: float, gate: Gate = NO_BREAKER) -> int:
        """Like :meth:`queue`, but the calling task waits."""
        rate_limit, bulkhead = self.rate_limit, self.bulkhead
        stamp, has_slot, began = None, False, self._clock.monotonic()
        try:
            if rate_limit is not None:
                stamp = await rate_limit.enter_async(until)
            turn = self._clock.monotonic()
            if bulkhead is not None:
                await bulkhead.enter_async(until)
                has_slot = True
            self._check_time(until)
            if rate_limit is not None:
                # Given up before it is asked for anew: whatever happens, it isn't given up twice.
                old, stamp = stamp, None
                stamp = await rate_limit.enter_async(until, max_wait=rate_limit.left_to_wait(turn - began), old=old)
                self._check_time(until)
        except BaseException:
            self._undo(stamp, has_slot)
            raise
        return self._permit(gate, stamp)

    def leave(self, elapsed: float | None = None, ok: bool | None = None) -> None:
        """
        Give the slot back, once, when the attempt has really ended. Never blocks.

        Args:
            elapsed: Seconds that it took at the target; None if that proves nothing.
            ok: True for a success, False for a sign of overload, None for neither; see :meth:`Bulkhead.leave`.
        """
        if self.bulkhead is not None:
            self.bulkhead.leave(elapsed, ok)

    def leave_after(self, began: float, ok: bool | None) -> None:
        """Like :meth:`leave`, for an attempt that began at the moment *began* and ends now."""
        if self.bulkhead is not None:
            if self.bulkhead.adaptive is None or ok is None:
                self.bulkhead.leave()
            else:
                self.bulkhead.leave(self._clock.monotonic() - began, ok)

    def spend(self, result: Any) -> None:
        """Charge the tokens that an attempt with this *result* has used. Never blocks, never raises."""
        if self.rate_limit is not None:
            self.rate_limit.charge(result)

    def _permit(self, gate: Gate, stamp: float | None) -> int:
        """The breaker's permit, for an attempt that has all the rest."""
        try:
            return gate.acquire()
        except BaseException:
            self._undo(stamp, self.bulkhead is not None)
            raise

    def _check_time(self, until: float) -> None:
        if self._clock.monotonic() >= until:
            text = "the deadline has passed while the call waited for its turn"
            raise TimeoutError(text, error_code=ErrorCode.ERR_TIMEOUT_DEADLINE, target=self._target)

    def _undo(self, stamp: float | None, has_slot: bool) -> None:
        if has_slot and self.bulkhead is not None:
            self.bulkhead.leave()
        if stamp is not None and self.rate_limit is not None:
            self.rate_limit.cancel(stamp)


class Held:
    """
    The slot of one attempt, given back once: when the last of those who need it is done.

    That is the caller, who tells the breaker first, so that whoever gets the slot next meets a breaker that knows;
    and the worker thread of a plain function, which may run on long after its caller has left.

    Attributes:
        ok: What the attempt says of its target, as :meth:`Admission.leave` has it.
    """

    __slots__ = ("_admission", "_began", "_done", "ok")

    def __init__(self, admission: Admission, began: float, parties: int) -> None:
        self._admission = admission
        self._began = began
        self._done = count(1 - parties)  # one step of it is a single operation of the interpreter
        self.ok: bool | None = None

    def done(self, error: object = None) -> None:
        """One of them is done."""
        if next(self._done) == 0:
            self._admission.leave_after(self._began, self.ok)


def make_admission(target: str, policy: TargetPolicy, clock: Clock, find_function: FindFunction) -> Admission | None:
    """
    The admission of *target*, or None if nothing queues there.

    Raises:
        ValidationError: If the policy names a function that can't be called here.
    """
    if policy.rate_limit is None and policy.bulkhead is None:
        return None
    rate_limit = None
    if policy.rate_limit is not None:
        tokens = policy.rate_limit.tokens
        usage = count_tokens if tokens is None or tokens.usage is None else find_function(tokens.usage)
        if inspect.iscoroutinefunction(usage):
            raise ValidationError("rate_limit.tokens.usage must name a plain function, not an async one", target=target)
        rate_limit = RateLimit(target, policy.rate_limit, clock=clock, usage=usage)
    bulkhead = Bulkhead(target, policy.bulkhead, clock=clock) if policy.bulkhead is not None else None
    return Admission(target, clock=clock, rate_limit=rate_limit, bulkhead=bulkhead)
