"""Injected faults against a model of them: a tape, of which each attempt meets the next draw, in both worlds."""

from __future__ import annotations

from collections import Counter
from math import inf

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import initialize, invariant, precondition, rule
from stepped import TICK, SteppedMachine, SyncWorld

from pixel_llm.errors import ErrorCode
from pixel_llm.events import ChaosInjected
from pixel_llm.policy import ChaosConfig, ChaosDelay, ChaosError, ChaosResult, TargetPolicy
from pixel_llm.resilience import Stack, guard
from pixel_llm.resilience.chaos import Chaos
from pixel_llm.testing import VirtualClock

LATE, DEADLINE = 2.0, 3.0
CODES = (ErrorCode.ERR_CONN_REFUSED, ErrorCode.ERR_API_OVERLOAD, ErrorCode.ERR_TIMEOUT_REQUEST)
RATES = st.sampled_from([None, 0.3, 0.5, 1.0])


class Call:
    """What the model knows of a call."""

    def __init__(self, caller, fault, deadline):
        self.caller, self.fault, self.deadline = caller, fault, deadline
        self.asleep_until, self.is_called, self.end = None, False, None


class ChaosMachine(SteppedMachine):
    """Up to three attempts at once."""

    @initialize(
        seed=st.integers(0, 1000),
        delayed=RATES,
        failed=RATES,
        replaced=RATES,
        deadline=st.sampled_from([None, 1.0, LATE, DEADLINE]),
    )
    def begin(self, seed, delayed, failed, replaced, deadline):
        if delayed is failed is replaced is None:
            failed = 0.5  # a section that injects nothing is refused
        self.value = ["injected"]
        config = ChaosConfig(
            seed=seed,
            delay=delayed and ChaosDelay(rate=delayed, duration=LATE),
            error=failed and ChaosError(rate=failed, codes=CODES),
            result=replaced and ChaosResult(rate=replaced, value=self.value),
        )
        # The same draws in every run: another one, to which nothing happens in between.
        self.tape = Chaos("model", config, clock=VirtualClock())
        policy = TargetPolicy(chaos=config, deadline=deadline)
        self.stack = Stack("model", policy, clock=self.world.clock, emit=self.events.append)
        self.guarded = guard(self.stack, self.world.target())
        self.config, self.deadline = config, deadline or inf
        self.calls, self.injected = [], []

    def _draw(self, *, runs):
        return [call for call in self.calls if call.end is None and (call.is_called or not runs)]

    # The model.

    def go_on(self, call):
        """What comes after the delay."""
        call.asleep_until = None
        delay, code, result = call.fault
        if delay and self.now >= call.deadline:
            call.end = ErrorCode.ERR_TIMEOUT_DEADLINE
        elif code is not None:
            self.injected.append(("error", code, 0.0))
            call.end = code
        elif result:
            self.injected.append(("result", None, 0.0))
            call.end = "injected"
        else:
            call.is_called = True

    def next_moment(self):
        return min((self._moment_of(call) for call in self._draw(runs=False)), default=inf)

    def _moment_of(self, call):
        if call.asleep_until is not None:
            return call.asleep_until
        return call.deadline if self.world.is_async else inf

    def come_to(self, moment):
        for call in self._draw(runs=False):
            if self._moment_of(call) <= moment:
                if call.is_called:
                    call.end = ErrorCode.ERR_TIMEOUT_DEADLINE
                else:
                    self.go_on(call)

    # What happens.

    @precondition(lambda self: len(self._draw(runs=False)) < 3)
    @rule()
    def call(self):
        call = Call(self.world.start(self.guarded), self.tape.draw(), self.now + self.deadline)
        self.calls.append(call)
        if call.fault.delay:
            self.injected.append(("delay", None, LATE))
            call.asleep_until = min(self.now + LATE, call.deadline)
        else:
            self.go_on(call)

    @precondition(lambda self: self._draw(runs=True))
    @rule(data=st.data())
    def give(self, data):
        call = data.draw(st.sampled_from(self._draw(runs=True)))
        call.caller.attempts[0].end("real")
        call.end = "real"

    @precondition(lambda self: self._draw(runs=not self.world.is_async))
    @rule(data=st.data())
    def interrupt(self, data):
        """Cancellation arrives while an attempt is delayed, too; its draw is used up."""
        call = data.draw(st.sampled_from(self._draw(runs=not self.world.is_async)))
        call.caller.interrupt()
        call.end, call.asleep_until = "interrupted", None

    @rule()
    def spoil_what_was_given(self):
        """Whoever changes an injected result changes that of nobody else."""
        for call in self.calls:
            if call.end == "injected":
                call.caller.outcome.value[:] = ["injected"]
                call.caller.outcome.value.append("spoilt")

    @rule(ticks=st.sampled_from([1, 8, 16]))
    def wait(self, ticks):
        self.advance(ticks * TICK)

    # What is seen.

    def expected(self):
        return [(call.asleep_until, int(call.is_called), call.end) for call in self.calls]

    def seen(self):
        return [(call.caller.asleep_until, len(call.caller.attempts), self._end(call.caller)) for call in self.calls]

    @staticmethod
    def _end(caller):
        if not caller.has_ended:
            return None
        if caller.error is None:
            return caller.outcome.value if isinstance(caller.outcome.value, str) else caller.outcome.value[0]
        return caller.error.error_code if isinstance(caller.error, Exception) else "interrupted"

    @invariant()
    def agrees_with_the_model(self):
        self.agree()
        events = [event for event in self.events if isinstance(event, ChaosInjected)]
        injected = [(event.injected, event.error_code, event.delay) for event in events]
        # Who wakes at the same moment goes on in any order.
        assert Counter(self.injected) == Counter(injected)

    @invariant()
    def keeps_its_bounds(self):
        assert ["injected"] == self.value
        for call in self.calls:
            delay, code, result = call.fault
            if self.config.delay is None or self.config.delay.rate == 1.0:
                assert bool(delay) == (self.config.delay is not None)
            if self.config.error is None or self.config.error.rate == 1.0:
                assert (code is not None) == (self.config.error is not None)
            assert code is None or (code in CODES and not result)
            if call.caller.has_ended and (self.world.is_async or not call.caller.attempts):
                assert call.caller.ended_at <= call.deadline


class SyncChaosMachine(ChaosMachine):
    world_type = SyncWorld


TestAsyncAgainstTheModel = ChaosMachine.TestCase
TestSyncAgainstTheModel = SyncChaosMachine.TestCase
TestAsyncAgainstTheModel.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestSyncAgainstTheModel.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
