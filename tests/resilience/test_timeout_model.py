"""Timeout and deadline against a model of them: attempts that end, fail or hang, in both worlds, alone or nested."""

from __future__ import annotations

from math import inf

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import initialize, invariant, precondition, rule
from stepped import TICK, SteppedMachine, SyncWorld

from pixel_llm.errors import ConnectionError, ErrorCode
from pixel_llm.policy import CircuitBreakerConfig, Jitter, RetryConfig, RetryStrategy, TargetPolicy, TimeoutConfig
from pixel_llm.resilience import Stack, guard

C = ErrorCode
WAIT = 1.0
RUNNING = None


class Attempt:
    """What the model knows of an attempt: when its caller leaves it, and what has come of the function itself."""

    def __init__(self, began, ends):
        self.began, self.ends, self.is_over, self.ended = began, ends, False, RUNNING


class Call:
    """What the model knows of a call."""

    def __init__(self, caller, now, own, callers):
        self.caller = caller
        self.deadline, self.is_inherited = now + min(own, callers), callers < own
        self.attempts, self.asleep_until, self.end = [], None, None

    @property
    def current(self):
        return None if self.end is not None or self.asleep_until is not None else self.attempts[-1]


class TimeoutMachine(SteppedMachine):
    """Up to two calls at once, in threads one, and the threads that earlier ones have left behind."""

    @initialize(
        timeout=st.sampled_from([None, 1.0, 2.0, 4.0]),
        deadline=st.sampled_from([None, 2.0, 3.0, 6.0]),
        callers=st.sampled_from([None, None, 2.5, 3.0]),
        max_attempts=st.integers(1, 3),
        max_abandoned=st.integers(1, 3),
    )
    def begin(self, timeout, deadline, callers, max_attempts, max_abandoned):
        self.timeout, self.deadline, self.callers = timeout or inf, deadline or inf, callers or inf
        self.max_attempts, self.max_abandoned = max_attempts, max_abandoned
        self.in_threads = timeout is not None and not self.world.is_async
        self.stack = self._stack(
            deadline=deadline,
            idempotent=True,
            retry=RetryConfig(
                strategy=RetryStrategy.FIXED_DELAY, initial_delay=WAIT, jitter=Jitter.NONE, max_attempts=max_attempts
            ),
            circuit_breaker=CircuitBreakerConfig(failure_threshold=1000),
            timeout=TimeoutConfig(attempt=timeout, max_abandoned_threads=max_abandoned),
        )
        self.guarded = guard(self.stack, self.world.target())
        if callers is not None:
            self.guarded = guard(self._stack(deadline=callers), self._caller_of(self.guarded))
        self.calls = []
        self.failures = 0

    def _stack(self, **layers):
        return Stack("model", TargetPolicy(**layers), clock=self.world.clock, emit=self.events.append)

    def _caller_of(self, guarded):
        async def call_async():
            return await guarded()

        return call_async if self.world.is_async else lambda: guarded()

    # The model.

    @property
    def abandoned(self):
        attempts = [attempt for call in self.calls for attempt in call.attempts]
        return sum(attempt.is_over and attempt.ended is RUNNING for attempt in attempts)

    def begin_attempt(self, call):
        call.asleep_until = None
        if self.in_threads and self.abandoned >= self.max_abandoned:
            call.end = ("error", C.ERR_LIMIT_BULKHEAD, len(call.attempts))
            return
        is_interrupted = self.world.is_async or self.in_threads
        ends = min(self.now + self.timeout, call.deadline) if is_interrupted else inf
        call.attempts.append(Attempt(self.now, ends))

    def lose(self, call, error, *, counts=True):
        call.attempts[-1].is_over = True
        self.failures += counts
        number = len(call.attempts)
        if error is C.ERR_TIMEOUT_DEADLINE or number == self.max_attempts or self.now + WAIT >= call.deadline:
            call.end = ("error", error, number)
        else:
            call.asleep_until = self.now + WAIT

    def next_moment(self):
        return min((self._moment_of(call) for call in self.calls if call.end is None), default=inf)

    @staticmethod
    def _moment_of(call):
        return call.current.ends if call.current is not None else call.asleep_until

    def come_to(self, moment):
        for call in self.calls:
            if call.end is not None or self._moment_of(call) > moment:
                continue
            attempt = call.current
            if attempt is None:
                self.begin_attempt(call)
                continue
            if self.world.is_async:
                attempt.ended = "cancelled"
            had_its_timeout = attempt.began + self.timeout <= moment
            is_first_on_own_time = len(call.attempts) == 1 and not call.is_inherited
            error = C.ERR_TIMEOUT_REQUEST if moment < call.deadline else C.ERR_TIMEOUT_DEADLINE
            self.lose(call, error, counts=had_its_timeout or is_first_on_own_time)

    # What happens.

    # Of two threads, one that is left behind as the other one asks whether there are too many, either may be the first.
    @precondition(lambda self: sum(call.end is None for call in self.calls) < (1 if self.in_threads else 2))
    @rule()
    def call(self):
        call = Call(self.world.start(self.guarded), self.now, self.deadline, self.callers)
        self.calls.append(call)
        self.begin_attempt(call)

    def _one_that_runs(self, data):
        if all(call.end is not None for call in self.calls):
            self.call()
            self.agree()
        running = [
            (call, attempt, told)
            for call in self.calls
            for attempt, told in zip(call.attempts, call.caller.attempts, strict=True)
            if attempt.ended is RUNNING
        ]
        return data.draw(st.sampled_from(running)) if running else (None, None, None)

    @rule(data=st.data())
    def succeed(self, data):
        """Also too late: then what nobody can interrupt still gives its value, and what was left behind gives none."""
        call, attempt, told = self._one_that_runs(data)
        if call is None:
            return
        told.end("value")
        attempt.ended = "returned"
        if not attempt.is_over:
            attempt.is_over, self.failures = True, 0
            call.end = ("value", "value", None)

    @rule(data=st.data())
    def fail(self, data):
        call, attempt, told = self._one_that_runs(data)
        if call is None:
            return
        error = ConnectionError()
        told.end(error)
        attempt.ended = "raised"
        if not attempt.is_over:
            self.lose(call, error)

    @precondition(lambda self: any(call.end is None for call in self.calls) and self.world.is_async)
    @rule(data=st.data())
    def cancel(self, data):
        call = data.draw(st.sampled_from([call for call in self.calls if call.end is None]))
        if call.current is not None:
            call.current.is_over, call.current.ended = True, "cancelled"
        call.caller.interrupt()
        call.end = ("cancelled", None, None)

    @rule(ticks=st.sampled_from([1, 4, 8, 16, 24]))
    def wait(self, ticks):
        self.advance(ticks * TICK)

    # What is seen.

    def expected(self):
        calls = [
            ([attempt.ended for attempt in call.attempts], call.asleep_until if call.end is None else None, call.end)
            for call in self.calls
        ]
        return calls, self.abandoned, self.failures

    def seen(self):
        calls = [
            ([attempt.ended for attempt in call.caller.attempts], call.caller.asleep_until, self._end(call))
            for call in self.calls
        ]
        return calls, self.stack.abandoned_threads.count, self.stack.breaker.failures

    @staticmethod
    def _end(call):
        caller = call.caller
        if not caller.has_ended:
            return None
        if caller.error is None:
            return "value", caller.outcome.value, None
        if not isinstance(caller.error, Exception):
            return "cancelled", None, None
        is_ours = type(caller.error) is ConnectionError
        return "error", caller.error if is_ours else caller.error.error_code, caller.error.attempts

    @invariant()
    def agrees_with_the_model(self):
        self.agree()

    @invariant()
    def keeps_its_bounds(self):
        assert self.stack.abandoned_threads.count < self.max_abandoned + 2
        for call in self.calls:
            assert len(call.caller.attempts) <= self.max_attempts
            if call.caller.has_ended and (self.world.is_async or self.in_threads):
                assert call.caller.ended_at <= call.deadline


class SyncTimeoutMachine(TimeoutMachine):
    world_type = SyncWorld


TestAsyncAgainstTheModel = TimeoutMachine.TestCase
TestSyncAgainstTheModel = SyncTimeoutMachine.TestCase
TestAsyncAgainstTheModel.settings = settings(max_examples=70, stateful_step_count=30, deadline=None)
TestSyncAgainstTheModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
