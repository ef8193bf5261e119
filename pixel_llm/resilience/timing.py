"""How long the calls of a target and their attempts may take, and what to say of those that took longer."""

from __future__ import annotations

import builtins
from dataclasses import replace
from math import inf

from pixel_llm.errors import ErrorCode, TimeoutError
from pixel_llm.policy import TargetPolicy
from pixel_llm.resilience.call import Call
from pixel_llm.resilience.clock import Clock, EndableClock
from pixel_llm.resilience.limits import Published, Terms, get_published


class Timing:
    """
    The deadline and the timeout of one target. Immutable.

    Args:
        target: What messages call it.
        policy: Its layers; durations are seconds.
        clock: Where time comes from.
        reserve: Seconds that are kept of the deadline for the fallback.

    Attributes:
        deadline: Seconds until the attempts of a call must be over; inf without a deadline.
        attempt_timeout: Seconds that an attempt may take; None without a limit.
        ends_after: Seconds until the first attempt of a call must be over: the shorter of the two.
        terms: The limits of a call on its own time, but for the moments.
    """

    __slots__ = (
        "_clock",
        "_inherited_terms",
        "_own",
        "_reserve",
        "_target",
        "attempt_timeout",
        "deadline",
        "ends_after",
        "terms",
    )

    def __init__(self, target: str, policy: TargetPolicy, *, clock: Clock, reserve: float) -> None:
        self._target = target
        self._clock = clock
        self._own = policy.deadline
        self._reserve = reserve
        self.deadline = inf if policy.deadline is None else policy.deadline - reserve
        self.attempt_timeout = policy.timeout.attempt if policy.timeout else None
        self.ends_after = self.deadline if self.attempt_timeout is None else min(self.deadline, self.attempt_timeout)
        connect = policy.timeout.connect if policy.timeout else None
        self.terms = Terms(clock, connect)
        self._inherited_terms = Terms(clock, connect, inherited=True)

    def of_call(self, started: float) -> tuple[float, Terms]:
        """The deadline and the terms of a call that began at the moment *started*: its own, or its caller's."""
        published = get_published()
        callers, own = published[0] - self._reserve, started + self.deadline
        deadline, terms = (callers, self._inherited_terms) if callers < own else (own, self.terms)
        if type(published[2].clock) is EndableClock:  # it ends what its caller's attempt calls, too
            terms = replace(terms, clock=published[2].clock)
        return deadline, terms

    def limits_of(self, call: Call) -> Published:
        """The limits of the attempt that *call* begins now."""
        ends = call.deadline
        if self.attempt_timeout is not None:
            ends = min(ends, call.attempt_started + self.attempt_timeout)
        return [ends, call.deadline, call.terms, get_published()[3] + 1]

    def out_of_time(self, terms: Terms) -> TimeoutError:
        """The error of a call whose deadline has passed."""
        own = None if terms.inherited else self._own
        kept = f", less the {self._reserve:g} s kept for the fallback," if self._reserve else ""
        deadline = f"the deadline of {own:g} s" if own is not None else "the caller's deadline"
        text = f"{deadline}{kept} has passed"
        return TimeoutError(text, error_code=ErrorCode.ERR_TIMEOUT_DEADLINE, target=self._target)

    def cut(self, limits: Published) -> TimeoutError:
        """The error of an attempt that was cut short: by its timeout if that was nearer, else by the deadline."""
        ends, deadline, terms, *_ = limits
        if ends == deadline:
            return self.out_of_time(terms)
        text = f"the attempt took longer than its timeout of {self.attempt_timeout:g} s"
        return TimeoutError(text, error_code=ErrorCode.ERR_TIMEOUT_REQUEST, target=self._target)

    def was_enough(self, call: Call, error: BaseException) -> bool:
        """False if *error*, in which an attempt ended, came only of a deadline that left it too little time."""
        now = self._clock.monotonic()
        if not isinstance(error, builtins.TimeoutError) or now < call.deadline:
            return True
        # Cut by the deadline. It says something of the target only if the attempt had a fair
        # share of time: its full timeout, or the target's own deadline from the first attempt on.
        if self.attempt_timeout is not None and now >= call.attempt_started + self.attempt_timeout:
            return True
        return call.attempts == 1 and not call.queued and not call.terms.inherited
