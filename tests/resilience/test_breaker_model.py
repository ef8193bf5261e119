"""The circuit breaker against a model of it: any order of calls, verdicts, waits and resets, under any policy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from pixel_llm.errors import CircuitBreakerOpen, ErrorCode
from pixel_llm.policy import CircuitBreakerConfig
from pixel_llm.policy.sections.circuit_breaker import BreakerMode, WindowConfig
from pixel_llm.resilience import CircuitBreaker, CircuitState
from pixel_llm.resilience.breaker.keyed import KeyedBreakers
from pixel_llm.testing import VirtualClock

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
DISABLED, FORCED_OPEN, SHADOW = BreakerMode.DISABLED, BreakerMode.FORCED_OPEN, BreakerMode.SHADOW

#: All times are multiples of this, so that sums are exact.
TICK = 1 / 8


@st.composite
def configs(draw):
    rates = st.none() | st.sampled_from([0.25, 0.5, 0.6, 1.0])
    failure_rate, slow_call_rate = draw(rates), draw(rates)
    minimum = draw(st.integers(1, 4))
    window = draw(
        st.integers(minimum, 6).map(lambda calls: WindowConfig(calls=calls))
        | st.sampled_from([20 * TICK, 80 * TICK]).map(lambda period: WindowConfig(period=period))
    )
    return CircuitBreakerConfig(
        mode=draw(st.sampled_from([*[BreakerMode.ENABLED] * 5, *[SHADOW] * 3, FORCED_OPEN, DISABLED])),
        failure_threshold=draw(st.sampled_from([None, 1, 2, 3])),
        failure_rate=failure_rate,
        slow_call_rate=slow_call_rate,
        slow_call_duration=1.0 if slow_call_rate is not None else None,
        window=window,
        minimum_calls=minimum,
        cooldown=10.0,
        cooldown_multiplier=draw(st.sampled_from([1.0, 2.0])),
        max_cooldown=draw(st.sampled_from([None, 10.0, 25.0])),
        success_threshold=draw(st.integers(1, 3)),
        half_open_max_calls=draw(st.integers(1, 3)),
        half_open_max_wait=draw(st.sampled_from([None, 5.0])),
    )


@dataclass
class Model:
    """What the documentation says of a breaker, in the plainest way."""

    config: CircuitBreakerConfig
    state: CircuitState = CLOSED
    period: int = 0
    open_until: float = -math.inf
    openings: int = 0
    failures: int = 0
    successes: int = 0
    trials: set = field(default_factory=set)
    blocked_since: float | None = None
    calls: list = field(default_factory=list)
    changes: list = field(default_factory=list)

    def __post_init__(self):
        if self.config.mode is FORCED_OPEN:
            self.state, self.open_until = OPEN, math.inf

    def become(self, state, now):
        self.changes.append((self.state, state))
        self.state = state
        self.period += 1
        self.trials, self.successes, self.blocked_since, self.open_until = set(), 0, None, -math.inf
        if state is OPEN:
            cooldown = self.config.cooldown * self.config.cooldown_multiplier**self.openings
            self.open_until = now + min(cooldown, self.config.max_cooldown or math.inf)
            self.openings += 1
        if state is CLOSED:
            self.failures, self.openings, self.calls = 0, 0, []

    def refusal(self, now):
        """The code that a call is refused with, or would be; None if it is admitted."""
        if self.state is HALF_OPEN and len(self.trials) == self.config.half_open_max_calls:
            wait = self.config.half_open_max_wait
            if wait is None or now - self.blocked_since < wait:
                return ErrorCode.ERR_CB_HALF_OPEN
            self.become(OPEN, now)
        return ErrorCode.ERR_CB_OPEN if self.state is OPEN and now < self.open_until else None

    def admit(self, call, now):
        if self.state is OPEN:
            self.become(HALF_OPEN, now)
        if self.state is HALF_OPEN:
            self.trials.add(call)
            if len(self.trials) == self.config.half_open_max_calls:
                self.blocked_since = now

    def settle(self, call, verdict, elapsed, now):
        self.trials.discard(call)
        if verdict == "nothing" or self.config.mode is DISABLED:
            return
        failed, slow = verdict == "failure", elapsed > (self.config.slow_call_duration or math.inf)
        if self.state is HALF_OPEN:
            self.failures = self.failures + 1 if failed else 0 if not slow else self.failures
            self.successes += 1
            if failed or slow:
                self.become(OPEN, now)
            elif self.successes == self.config.success_threshold:
                self.become(CLOSED, now)
            return
        self.failures = self.failures + 1 if failed else 0
        if failed and self.failures == self.config.failure_threshold:
            self.become(OPEN, now)
        elif self.config.has_rate:
            self.calls.append((now, failed, slow))
            if self.too_many(now):
                self.become(OPEN, now)

    def too_many(self, now):
        window = self.config.window
        if window.calls is not None:
            calls = self.calls[-window.calls :]
        else:
            step = window.period / 20
            calls = [call for call in self.calls if now // step - call[0] // step < 20]
        if len(calls) < self.config.minimum_calls:
            return False
        rates = [sum(failed for _, failed, _ in calls) / len(calls), sum(slow for _, _, slow in calls) / len(calls)]
        limits = [self.config.failure_rate, self.config.slow_call_rate]
        return any(limit is not None and rate >= limit for rate, limit in zip(rates, limits, strict=True))

    def reset(self, now):
        if self.config.mode in (DISABLED, FORCED_OPEN):
            return
        self.failures, self.calls = 0, []
        if self.state is not CLOSED:
            self.become(CLOSED, now)


class BreakerMachine(RuleBasedStateMachine):
    """The breaker and its model, asked and told the same."""

    permits = Bundle("permits")

    @initialize(config=configs())
    def start(self, config):
        self.clock = VirtualClock(0.0)
        self.config = config
        self.told, self.shadow_refusals, self.expected_refusals = [], [], []
        self.breaker = CircuitBreaker(
            "model",
            config,
            clock=self.clock,
            on_change=lambda old, new, *_: self.told.append((old, new)),
            on_shadow_refusal=lambda code, wait: self.shadow_refusals.append((code, wait)),
        )
        self.model = Model(config)
        self.calls = 0

    @property
    def now(self):
        return self.clock.monotonic()

    @rule(target=permits)
    def ask(self):
        refusal, left = self.model.refusal(self.now), self.model.open_until - self.now
        self.calls += 1
        if refusal is None:
            self.model.admit(self.calls, self.now)
            return self.calls, self.model.period, self.breaker.acquire()
        wait = left if refusal is ErrorCode.ERR_CB_OPEN and left < math.inf else None
        if self.config.mode is SHADOW:
            self.expected_refusals.append((refusal, self.model.open_until - self.now if wait is not None else None))
            return self.calls, None, self.breaker.acquire()
        with pytest.raises(CircuitBreakerOpen) as caught:
            self.breaker.acquire()

        assert refusal is caught.value.error_code
        if refusal is ErrorCode.ERR_CB_HALF_OPEN:
            assert caught.value.retry_after is None
        return multiple()

    @rule()
    def look(self):
        """A call that looks whether it would be admitted, and then doesn't come."""
        if self.config.mode is SHADOW or self.model.refusal(self.now) is None:
            self.breaker.check()
        else:
            with pytest.raises(CircuitBreakerOpen):
                self.breaker.check()

    @rule(
        held=consumes(permits),
        verdict=st.sampled_from(["success", "failure", "nothing"]),
        elapsed=st.sampled_from([0.0, 1.0, 1.0 + TICK]),
    )
    def settle(self, held, verdict, elapsed):
        call, period, permit = held
        if verdict == "success":
            self.breaker.record_success(permit, elapsed)
        elif verdict == "failure":
            self.breaker.record_failure(permit, None, elapsed)
        else:
            self.breaker.release(permit)
        if period == self.model.period:
            self.model.settle(call, verdict, elapsed, self.now)

    @rule(held=consumes(permits))
    def hang(self, held):
        """A call that never ends."""

    @rule(ticks=st.sampled_from([1, 2, 8, 32, 40, 80, 100, 200]))
    def wait(self, ticks):
        self.clock.advance(ticks * TICK)

    @rule()
    def reset(self):
        self.breaker.reset()
        self.model.reset(self.now)

    @invariant()
    def agrees_with_the_model(self):
        model, breaker = self.model, self.breaker
        refuses = model.state is OPEN and self.config.mode is not SHADOW

        assert model.state is breaker.state
        assert model.failures == breaker.failures
        assert (max(0.0, model.open_until - self.now) if refuses else 0.0) == breaker.retry_after()
        assert model.changes == self.told
        assert self.expected_refusals == self.shadow_refusals
        assert (breaker.closed_period >= 0) == (model.state is CLOSED)

    @invariant()
    def admits_no_trial_too_many(self):
        assert len(self.model.trials) <= self.config.half_open_max_calls

    @invariant()
    def a_success_is_told_wherever_it_matters(self):
        if not self.breaker.eventful and self.config.mode not in (DISABLED, FORCED_OPEN):
            assert (CLOSED, 0, False) == (self.model.state, self.model.failures, self.config.has_rate)


TestBreakerAgainstItsModel = BreakerMachine.TestCase
TestBreakerAgainstItsModel.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


class KeysMachine(RuleBasedStateMachine):
    """The breakers of several keys against a model: an ordered list of keys, and which of them are closed."""

    def __init__(self):
        super().__init__()
        self.made = []
        config = CircuitBreakerConfig(failure_threshold=1)
        clock = VirtualClock(0.0)

        def make(key):
            self.made.append(key)
            return CircuitBreaker("model", config, key=key, clock=clock)

        self.breakers = KeyedBreakers(make, 3)
        self.used = []  # longest ago first
        self.open = set()

    def use(self, key):
        if key in self.used:
            self.used.remove(key)
        else:
            self.open.discard(key)
            if len(self.used) == 3:
                closed = [known for known in self.used if known not in self.open]
                self.used.remove((closed or self.used)[0])
        self.used.append(key)
        return self.breakers.get(key)

    @rule(key=st.integers(1, 6))
    def succeed(self, key):
        self.use(key)

    @rule(key=st.integers(1, 6))
    def fail(self, key):
        breaker = self.use(key)
        breaker.record_failure()
        self.open.add(key)

    @rule(key=st.integers(1, 6))
    def reset(self, key):
        self.use(key).reset()
        self.open.discard(key)

    @invariant()
    def agrees_with_the_model(self):
        assert self.used == [key for key, _ in self.breakers.items()]
        assert len(self.breakers) <= 3
        for key, breaker in self.breakers.items():
            assert key == breaker.key
            assert (OPEN if key in self.open else CLOSED) is breaker.state


TestKeysAgainstTheirModel = KeysMachine.TestCase
TestKeysAgainstTheirModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
