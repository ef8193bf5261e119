"""Retrying against a model of it: any errors, answers, waits and interruptions, under any section, in both worlds."""

from __future__ import annotations

import asyncio
from math import inf
from types import SimpleNamespace

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import initialize, invariant, precondition, rule
from stepped import TICK, SteppedMachine, SyncWorld

from pixel_llm.errors import APIError, ConnectionError, EncoderError, ErrorCode, RetryExhausted, TimeoutError
from pixel_llm.events import CallFailed, CallRecovered, RetryScheduled
from pixel_llm.policy import Jitter, RetryConfig, RetryStrategy, TargetPolicy
from pixel_llm.policy.sections import retry as sections_retry
from pixel_llm.policy.sections.matching import ErrorMatcher
from pixel_llm.resilience import Stack, guard

C, S = ErrorCode, RetryStrategy


def refused(status, code):
    return lambda: APIError(error_code=code, details={"status": status})


#: What an attempt may fail of: how it is made, what a policy can call it, whether it is one that may go away, whether
#: it proves that nothing was sent, and whether a server has answered.
KINDS = {
    "refused": (lambda: ConnectionError(error_code=C.ERR_CONN_REFUSED), {"TRANSIENT"}, True, True, False),
    "lost": (lambda: ConnectionError(error_code=C.ERR_CONN_LOST), {"TRANSIENT", "ERR_CONN_LOST"}, True, False, False),
    "silent": (lambda: TimeoutError(error_code=C.ERR_TIMEOUT_RESPONSE), {"TRANSIENT"}, True, False, False),
    "429": (refused(429, C.ERR_API_RATE_LIMIT), {"THROTTLED"}, True, False, True),
    "500": (refused(500, C.ERR_API_SERVER_ERROR), {"TRANSIENT", "5xx"}, True, False, True),
    "wrong key": (refused(401, C.ERR_API_UNAUTHORIZED), {"PERMANENT"}, False, False, True),
    "no picture": (lambda: EncoderError(error_code=C.ERR_ENC_INVALID_INPUT), {"PERMANENT"}, False, False, False),
    "unknown": (lambda: RuntimeError("?"), {"UNKNOWN"}, True, False, True),
}
#: Where what is drawn lies, between the least and the most that it may be.
CHANCE = st.sampled_from([0.0, 0.25, 1.0])
#: What the server may ask to wait.
ASKED = st.sampled_from([None, None, 0.0, 2.5, 4.0, 5.0])
MATCHERS = [
    ("TRANSIENT", "THROTTLED"),
    ("TRANSIENT", "THROTTLED", "UNKNOWN"),
    ("ERR_CONN_LOST", "5xx"),
    ("THROTTLED",),
]
BAD = "no good"


def sections():
    return st.fixed_dictionaries(
        {
            "strategy": st.sampled_from([*S, S.EXPONENTIAL_BACKOFF]),
            "jitter": st.sampled_from([*Jitter, Jitter.NONE]),
            "max_attempts": st.sampled_from([1, 2, 3, 4, 5]),
            "initial_delay": st.sampled_from([0.0, 1.0, 1.0, 3.0]),
            "max_delay": st.sampled_from([0.0, 2.0, 10.0, 10.0, 10.0]),
            "backoff_multiplier": st.sampled_from([1.0, 2.0, 3.0]),
            "retry_after_max": st.sampled_from([0.0, 4.0, 60.0]),
            "retry_on_result": st.sampled_from([None, "is_bad"]),
        }
    )


class Model:
    """One call, as the documentation has it."""

    def __init__(self, section, names, idempotent, deadline, now):
        self.section = SimpleNamespace(**section)
        self.names, self.idempotent = names, idempotent
        self.deadline = now + deadline
        self.attempts, self.asleep_until, self.end = 1, None, None
        self.last_drawn = None

    def may_be_retried(self, kind):
        if kind == BAD:
            return self.idempotent and self.section.retry_on_result is not None
        _, called, may_go_away, nothing_sent, _ = KINDS[kind]
        if not (called & set(self.names)):
            return False
        return may_go_away and (self.idempotent or nothing_sent)

    def waits(self):
        """What jitter leaves no choice of, and the longest it may draw, after the attempt that has just ended."""
        s, n = self.section, self.attempts
        if s.strategy is S.IMMEDIATE:
            return 0.0, 0.0
        if s.jitter is Jitter.DECORRELATED:
            last = s.initial_delay if self.last_drawn is None else self.last_drawn
            return s.initial_delay, 3 * last
        wait = {
            S.FIXED_DELAY: s.initial_delay,
            S.LINEAR_BACKOFF: s.initial_delay * n,
            S.EXPONENTIAL_BACKOFF: s.initial_delay * s.backoff_multiplier ** (n - 1),
        }[s.strategy]
        wait = min(wait, s.max_delay)
        return {Jitter.NONE: wait, Jitter.EQUAL: wait / 2, Jitter.FULL: 0.0}[s.jitter], wait

    def wait_after(self, kind, asked, chance):
        """How long it waits before the next attempt, where so much of the chance comes true; None if it does not."""
        if not self.may_be_retried(kind) or self.attempts >= self.section.max_attempts:
            return None
        shortest, longest = self.waits()
        drawn = min(shortest + chance * (longest - shortest), self.section.max_delay)
        shortest = min(shortest, self.section.max_delay)
        if kind == BAD or not KINDS[kind][4]:
            asked = None  # nobody has answered, so nobody has asked for anything
        if asked is not None and asked > self.section.retry_after_max:
            return None
        self.last_drawn = drawn
        return drawn if asked is None else max(asked, shortest) + drawn - shortest

    def sleep(self, now, wait):
        if wait:
            self.asleep_until = now + wait
        else:
            self.wake()

    def wake(self):
        self.asleep_until = None
        self.attempts += 1

    @property
    def runs(self):
        return self.end is None and self.asleep_until is None


class RetryMachine(SteppedMachine):
    """Up to three calls at once, and what the model says of each."""

    @initialize(
        section=sections(),
        names=st.sampled_from(MATCHERS),
        idempotent=st.sampled_from([None, True, False]),
        deadline_in_waits=st.sampled_from([None, 1, 2, 6]),
        chance=CHANCE,
    )
    def begin(self, section, names, idempotent, deadline_in_waits, chance):
        deadline = deadline_in_waits and deadline_in_waits * max(section["initial_delay"], 1.0)
        section["max_delay"] = max(section["initial_delay"], section["max_delay"])  # as a policy must have it
        self.section, self.names = section, names
        self.idempotent, self.deadline = idempotent is not False, inf if deadline is None else deadline
        self.stack = Stack(
            "model",
            TargetPolicy(
                deadline=deadline,
                idempotent=idempotent,
                retry=RetryConfig(**section, retry_on=ErrorMatcher.of(*names)),
            ),
            clock=self.world.clock,
            emit=self.events.append,
            find_function=lambda name: lambda result: result == BAD,
        )
        self.guarded = guard(self.stack, self.world.target())
        self.calls = []  # callers, and their models
        self.failed = self.recovered = 0
        self.chance, self.waits = chance, []
        self.before = sections_retry.random
        sections_retry.random = SimpleNamespace(uniform=lambda least, most: least + self.chance * (most - least))

    def teardown(self):
        super().teardown()
        if hasattr(self, "before"):
            sections_retry.random = self.before

    def _draw(self, data, *, runs):
        """One of the calls that are under way, or whose attempt *runs*; a new one if there is none."""
        if all(model.end is not None for _, model in self.calls):
            self.call()
            self.agree()
        those = [call for call in self.calls if call[1].end is None and (call[1].runs or not runs)]
        return data.draw(st.sampled_from(those)) if those else (None, None)

    @precondition(lambda self: sum(model.end is None for _, model in self.calls) < 3)
    @rule()
    def call(self):
        model = Model(self.section, self.names, self.idempotent, self.deadline, self.now)
        self.calls.append((self.world.start(self.guarded), model))

    @rule(chance=CHANCE)
    def change_chance(self, chance):
        self.chance = chance

    @rule(data=st.data(), value=st.sampled_from(["good", "good", BAD]))
    def give(self, data, value):
        caller, model = self._draw(data, runs=True)
        if caller is None:
            return
        caller.running[0].end(value)
        if value == BAD and self.section["retry_on_result"] is not None:
            self._go_on(caller, model, BAD, None, None)
        else:
            self.recovered += model.attempts > 1
            model.end = ("value", value, model.attempts)

    @rule(data=st.data(), kind=st.sampled_from(sorted(KINDS)), asked=ASKED)
    def fail(self, data, kind, asked):
        caller, model = self._draw(data, runs=True)
        if caller is not None:
            self._fail(caller, model, kind, asked)

    @rule(data=st.data(), kinds=st.lists(st.sampled_from(["lost", "429", "500"]), min_size=2, max_size=6), asked=ASKED)
    def fail_again_and_again(self, data, kinds, asked):
        """One of them meets failures that may go away, until it gives up."""
        caller, model = self._draw(data, runs=True)
        for kind in kinds if caller is not None else ():
            if model.end is None and model.runs:
                self._fail(caller, model, kind, asked)
                self.agree()
            if model.end is None and not model.runs:
                self.advance(model.asleep_until - self.now)

    def _fail(self, caller, model, kind, asked):
        error = KINDS[kind][0]()
        error.retry_after = asked
        caller.running[0].end(error)
        self._go_on(caller, model, kind, asked, error)

    def _go_on(self, caller, model, kind, asked, error):
        """After a failed attempt."""
        wait, left = model.wait_after(kind, asked, self.chance), model.deadline - self.now
        if wait is None or left <= 0 or wait >= left:
            self.failed += 1
            model.end = ("error", error if error is not None else RetryExhausted, model.attempts)
        else:
            self.waits.append(wait)
            model.sleep(self.now, wait)

    @rule(data=st.data())
    def interrupt(self, data):
        """Cancellation, or KeyboardInterrupt, passes untouched, wherever it arrives."""
        caller, model = self._draw(data, runs=not self.world.is_async)
        if caller is None:
            return
        caller.interrupt()
        model.end = ("error", asyncio.CancelledError if self.world.is_async else KeyboardInterrupt, None)

    @rule(ticks=st.sampled_from([1, 8, 20, 24, 80]))
    def wait(self, ticks):
        self.advance(ticks * TICK)

    @rule(data=st.data())
    def wait_to_the_deadline(self, data):
        _, model = self._draw(data, runs=False)
        if model is not None and self.now <= model.deadline < inf:
            self.advance(model.deadline - self.now)

    def next_moment(self):
        return min((self._moment_of(model) for _, model in self.calls if model.end is None), default=inf)

    def _moment_of(self, model):
        if not model.runs:
            return model.asleep_until
        return model.deadline if self.world.is_async else inf  # nothing interrupts a plain function

    def come_to(self, moment):
        for _, model in self.calls:
            if model.end is None and self._moment_of(model) <= moment:
                if model.runs:
                    self.failed += 1
                    model.end = ("error", C.ERR_TIMEOUT_DEADLINE, model.attempts)
                else:
                    assert moment < model.deadline
                    model.wake()

    def seen(self):
        return [
            (len(caller.attempts), len(caller.running), caller.asleep_until, self._end_of(caller, model))
            for caller, model in self.calls
        ]

    def expected(self):
        return [
            (model.attempts, int(model.runs), model.asleep_until if model.end is None else None, model.end)
            for _, model in self.calls
        ]

    def _end_of(self, caller, model):
        if not caller.has_ended:
            return None
        if caller.error is None:
            return "value", caller.outcome.value, caller.outcome.attempts
        error = caller.error
        found = error
        if isinstance(error, RetryExhausted):
            assert BAD == error.last_result
            found = RetryExhausted
        elif model.end is not None and isinstance(model.end[1], ErrorCode):
            found = error.error_code
        elif not isinstance(error, Exception):
            return "error", type(error), None
        return "error", found, error.attempts

    @invariant()
    def agrees_with_the_model(self):
        self.agree()
        assert self.waits == [event.delay for event in self.events if isinstance(event, RetryScheduled)]
        assert self.failed == sum(isinstance(event, CallFailed) for event in self.events)
        assert self.recovered == sum(isinstance(event, CallRecovered) for event in self.events)

    @invariant()
    def keeps_its_bounds(self):
        for caller, model in self.calls:
            assert len(caller.attempts) <= self.section["max_attempts"]
            for attempt in caller.attempts:
                assert attempt.began < model.deadline
            if self.world.is_async and caller.has_ended:
                assert caller.ended_at <= model.deadline


class SyncRetryMachine(RetryMachine):
    world_type = SyncWorld


TestAsyncAgainstTheModel = RetryMachine.TestCase
TestSyncAgainstTheModel = SyncRetryMachine.TestCase
TestAsyncAgainstTheModel.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestSyncAgainstTheModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
