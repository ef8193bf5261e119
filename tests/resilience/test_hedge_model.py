"""Hedging against a model of it: attempts side by side, which end, hang or are interrupted, in both worlds."""

from __future__ import annotations

import asyncio
from math import inf

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import initialize, invariant, precondition, rule
from stepped import TICK, SteppedMachine, SyncWorld

from pixel_llm.errors import APIError, ConnectionError, ErrorCode
from pixel_llm.events import HedgeSent, HedgeSkipped
from pixel_llm.policy import (
    BulkheadConfig,
    CircuitBreakerConfig,
    HedgeConfig,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
)
from pixel_llm.resilience import Stack, guard

C = ErrorCode
DELAY = 2.0
RUNNING = None


class Attempt:
    """What the model knows of an attempt."""

    def __init__(self, began, ends, cut):
        self.began, self.ends, self.cut = began, ends, cut
        self.is_over = False  # for its caller
        self.ended = RUNNING  # what has come of the function itself


class HedgeMachine(SteppedMachine):
    """One call at a time. What earlier calls have left behind in their threads may still run."""

    @initialize(
        max_hedges=st.integers(1, 3),
        max_attempts=st.integers(1, 2),
        timeout=st.sampled_from([None, 1.0, 5.0, 5.0]),
        deadline=st.sampled_from([None, None, 1.5, 6.5]),
        slots=st.sampled_from([None, None, 1, 2, 3]),
        max_abandoned=st.sampled_from([1, 1, 2, 16]),
    )
    def begin(self, max_hedges, max_attempts, timeout, deadline, slots, max_abandoned):
        self.max_hedges, self.max_attempts = max_hedges, max_attempts
        self.timeout, self.deadline = timeout or inf, deadline or inf
        self.slots, self.max_abandoned = slots or inf, inf if self.world.is_async else max_abandoned
        self.stack = Stack(
            "model",
            TargetPolicy(
                deadline=deadline,
                idempotent=True,
                retry=RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=max_attempts),
                hedge=HedgeConfig(delay=DELAY, max_hedges=max_hedges),
                circuit_breaker=CircuitBreakerConfig(failure_threshold=1000),
                bulkhead=None if slots is None else BulkheadConfig(max_concurrent=slots),
                timeout=TimeoutConfig(attempt=timeout, max_abandoned_threads=max_abandoned),
            ),
            clock=self.world.clock,
            emit=self.events.append,
        )
        self.guarded = guard(self.stack, self.world.target())
        self.caller = self.end = None
        self.called = []  # the caller and the model of each attempt of every call
        self.attempts = []  # those of the call
        self.breaker_failures = self.sent = self.skipped = 0

    # The model.

    @property
    def is_under_way(self):
        return self.caller is not None and self.end is None

    @property
    def in_use(self):
        return sum(attempt.ended is RUNNING for _, attempt in self.called)

    @property
    def abandoned(self):
        return sum(attempt.ended is RUNNING and attempt.is_over for _, attempt in self.called)

    @property
    def in_the_race(self):
        return [attempt for attempt in self.attempts if not attempt.is_over]

    def may_begin(self):
        return self.in_use < self.slots and self.abandoned < self.max_abandoned

    def begin_round(self):
        if not self.may_begin():
            self.end = ("error", C.ERR_LIMIT_BULKHEAD, len(self.attempts), self.failed)
            return
        self.rounds += 1
        self.left = self.max_hedges
        self.begin_attempt()

    def begin_attempt(self):
        self.last_sent = self.now
        full = self.now + self.timeout
        # Cut by the deadline, only the first attempt has had all the time there was, or one that had its full timeout.
        code = C.ERR_TIMEOUT_REQUEST if full < self.ends_at else C.ERR_TIMEOUT_DEADLINE
        cut = (code, full <= self.ends_at or not self.attempts)
        attempt = Attempt(self.now, min(full, self.ends_at), cut)
        self.attempts.append(attempt)
        self.called.append((self.caller, attempt))

    def next_hedge(self):
        moment = self.last_sent + DELAY
        return moment if self.left and moment < self.ends_at and self.timeout > DELAY else inf

    def lose(self, attempt, error, *, is_permanent=False, counts=True):
        attempt.is_over = True
        self.failed += 1
        self.breaker_failures += counts
        if is_permanent:
            self.finish(("error", error, len(self.attempts), self.failed))
        elif not self.in_the_race:
            if self.rounds < self.max_attempts and error is not C.ERR_TIMEOUT_DEADLINE and self.now < self.ends_at:
                self.begin_round()
            else:
                self.finish(("error", error, len(self.attempts), self.failed))

    def finish(self, end):
        """The call is over: the losers are cancelled, or left behind."""
        self.end = end
        for attempt in self.in_the_race:
            attempt.is_over = True
            if self.world.is_async:
                attempt.ended = "cancelled"

    def next_moment(self):
        if not self.is_under_way:
            return inf
        return min(self.next_hedge(), *(attempt.ends for attempt in self.in_the_race))

    def come_to(self, moment):
        for attempt in self.in_the_race:
            if attempt.ends <= moment:
                if self.world.is_async:
                    attempt.ended = "cancelled"
                self.lose(attempt, attempt.cut[0], counts=attempt.cut[1])
        if self.is_under_way and self.next_hedge() <= moment:
            self.left -= 1
            self.last_sent = moment
            if self.may_begin():
                self.begin_attempt()
                self.sent += 1
            else:
                self.skipped += 1

    # What happens.

    @precondition(lambda self: not self.is_under_way)
    @rule()
    def call(self):
        self.caller, self.end = self.world.start(self.guarded), None
        self.attempts, self.rounds, self.failed = [], 0, 0
        self.ends_at = self.now + self.deadline
        self.begin_round()

    def _one_that_runs(self, data):
        """What is told how to end, and its model: one of the call's, or one that was left behind."""
        if not self.is_under_way:
            self.call()
            self.agree()
        running = [(caller, attempt) for caller, attempt in self.called if attempt.ended is RUNNING]
        if not running:
            return None, None
        caller, attempt = data.draw(st.sampled_from(running))
        place = [other for whose, other in self.called if whose is caller].index(attempt)
        return caller.attempts[place], attempt

    @rule(data=st.data())
    def succeed(self, data):
        told, attempt = self._one_that_runs(data)
        if attempt is None:
            return
        value = object()
        told.end(value)
        attempt.ended = "returned"
        if not attempt.is_over:
            attempt.is_over = True
            self.breaker_failures = 0
            self.finish(("value", value, len(self.attempts)))

    @rule(data=st.data(), is_permanent=st.sampled_from([False, False, True]))
    def fail(self, data, is_permanent):
        told, attempt = self._one_that_runs(data)
        if attempt is None:
            return
        error = APIError(error_code=C.ERR_API_UNAUTHORIZED) if is_permanent else ConnectionError()
        told.end(error)
        attempt.ended = "raised"
        if not attempt.is_over:
            self.lose(attempt, error, is_permanent=is_permanent, counts=not is_permanent)

    @precondition(lambda self: self.is_under_way)
    @rule(data=st.data())
    def interrupt(self, data):
        """Whoever calls is cancelled; or a thread meets a KeyboardInterrupt. The others are left."""
        if self.world.is_async:
            self.caller.interrupt()
            self.finish(("error", asyncio.CancelledError, None))
            return
        attempt = data.draw(st.sampled_from(self.in_the_race))
        self.caller.attempts[self.attempts.index(attempt)].end(KeyboardInterrupt())
        attempt.is_over, attempt.ended = True, "raised"
        self.finish(("error", KeyboardInterrupt, None))

    @precondition(lambda self: self.is_under_way)
    @rule(ticks=st.sampled_from([1, 4, 8, 16, 24]))
    def wait(self, ticks):
        self.advance(ticks * TICK)

    # What is seen.

    def expected(self):
        return {
            "attempts": [attempt.ended for attempt in self.attempts],
            "end": self.end,
            "in use": self.in_use if self.slots < inf else 0,
            "abandoned": self.abandoned,
            "failures": self.breaker_failures,
            "sent": self.sent,
            "skipped": self.skipped,
        }

    def seen(self):
        admission = self.stack.admission
        return {
            "attempts": [attempt.ended for attempt in self.caller.attempts] if self.caller else [],
            "end": self._end(),
            "in use": admission.bulkhead.in_use if admission is not None else 0,
            "abandoned": self.stack.abandoned_threads.count,
            "failures": self.stack.breaker.failures,
            "sent": sum(isinstance(event, HedgeSent) for event in self.events),
            "skipped": sum(isinstance(event, HedgeSkipped) for event in self.events),
        }

    def _end(self):
        if self.caller is None or not self.caller.has_ended:
            return None
        error = self.caller.error
        if error is None:
            return "value", self.caller.outcome.value, self.caller.outcome.attempts
        if not isinstance(error, Exception):
            return "error", type(error), None
        if isinstance(self.end and self.end[1], ErrorCode):
            error = error.error_code
        return "error", error, self.caller.error.attempts, len(self.caller.error.history)

    @invariant()
    def agrees_with_the_model(self):
        self.agree()

    @invariant()
    def keeps_its_bounds(self):
        callers = {id(caller): caller for caller, _ in self.called}
        assert sum(len(caller.running) for caller in callers.values()) <= self.slots
        if self.caller is not None:
            assert len(self.caller.attempts) <= self.max_attempts * (1 + self.max_hedges)
        if self.caller is not None and self.caller.has_ended:
            assert self.caller.ended_at <= self.ends_at
            assert not self.world.is_async or not self.caller.running


class SyncHedgeMachine(HedgeMachine):
    world_type = SyncWorld


TestAsyncAgainstTheModel = HedgeMachine.TestCase
TestSyncAgainstTheModel = SyncHedgeMachine.TestCase
TestAsyncAgainstTheModel.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestSyncAgainstTheModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
