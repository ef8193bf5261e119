"""Bounds hold against real stacks in virtual time: never exceeded, and reached by some schedule."""

from __future__ import annotations

import dataclasses
import gc
import math
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outages import Outage, alone, nested
from schedules import (
    ANSWERS,
    ERRORS,
    REJECTED,
    TARGET,
    GeneratePlay,
    Play,
    Step,
    adversaries,
    any_breakers,
    fastest,
    is_counted,
    longest,
    policies,
    rated_breakers,
    retried_errors,
    seconds,
)

from pixel_llm.policy import (
    BreakerMode,
    CacheConfig,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    HedgeConfig,
    Jitter,
    LMStudioConfig,
    PolicyConfig,
    RetryBudgetConfig,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
    Vision,
    WindowConfig,
    load_policy,
)
from pixel_llm.policy.bounds import CHAT, GENERATE, INSIDE_GENERATE, Bounds, all_bounds, compute_bounds, share_of
from pixel_llm.policy.sections.matching import ErrorMatcher
from pixel_llm.resilience.caching.cache import ResultCache

EXAMPLES = settings(max_examples=400)


def bounds_of(policy: TargetPolicy, rate: float = 1.0) -> Bounds:
    return compute_bounds(PolicyConfig(version=1, targets={TARGET: policy}), TARGET, rate=rate)


def in_the_corner(policy: TargetPolicy) -> bool:
    """A threshold of 1, no retried error (or answer) that doesn't count, but room for the breaker to open and close."""
    breaker = policy.circuit_breaker
    if breaker is None or breaker.failure_threshold > 1:
        return False
    names = retried_errors(policy)
    neutral = [name for name in names if not is_counted(policy, ERRORS[name](None))]
    answers = [name for name in names if name in ANSWERS]
    unlikely = (bool(names) and not neutral) or (bool(answers) and not set(answers) & set(neutral))
    longest = min(policy.timeout.attempt if policy.timeout else 1e6, policy.deadline or 1e6)
    return unlikely and (breaker.half_open_max_calls > 1 or longest >= breaker.cooldown)


def one_failure_opens(retry_on: ErrorMatcher | None = None, **breaker: Any) -> TargetPolicy:
    return TargetPolicy(
        retry=RetryConfig(retry_on=retry_on or ErrorMatcher.of("TRANSIENT")),
        circuit_breaker=CircuitBreakerConfig(**{"failure_threshold": 1, **breaker}),
        timeout=TimeoutConfig(attempt=5.0),
    )


class TestWorstCall:
    @EXAMPLES
    @given(st.data())
    def test_is_never_exceeded(self, data):
        """Whatever attempts and other callers do, no call takes longer or makes more attempts."""
        policy = data.draw(policies(breakers=any_breakers(), waits=True))
        bounds = bounds_of(policy)
        play = Play(policy, *data.draw(adversaries(policy)), after_outage=data.draw(st.booleans())).run()

        assert play.attempts <= bounds.worst_attempts
        assert bounds.worst_latency is None or play.elapsed <= bounds.worst_latency

    @EXAMPLES
    @given(policies())
    def test_attempts_are_reached(self, policy):
        """Some call makes as many attempts."""
        if in_the_corner(policy):
            return
        play = Play(policy, *fastest(policy)).run()

        assert bounds_of(policy).worst_attempts == play.attempts

    def test_a_threshold_of_one_ends_the_retries(self):
        """Where every retried error counts, the first failure opens the breaker: there is one attempt."""
        policy = one_failure_opens()

        assert 1 == bounds_of(policy).worst_attempts == Play(policy, Step(error="refused")).run().attempts

    @pytest.mark.parametrize("threshold", [2, 3])
    def test_a_higher_threshold_does_not(self, threshold):
        """Another caller's success forgets the failures in between."""
        policy = one_failure_opens(failure_threshold=threshold)

        assert 3 == bounds_of(policy).worst_attempts == Play(policy, *fastest(policy)).run().attempts

    def test_an_attempt_as_long_as_the_cooldown(self):
        """The breaker opens and recovers during the attempt, whose failure then counts no more."""
        policy = one_failure_opens(cooldown=5.0)
        play = Play(policy, Step(5.0, "refused", others=(("refused",), ("ok", "ok"), (), ()))).run()

        assert 3 == bounds_of(policy).worst_attempts == play.attempts

    def test_several_trial_calls_at_once(self):
        """Another trial call closes the breaker during the attempt, whose failure then counts no more."""
        policy = one_failure_opens(half_open_max_calls=2, success_threshold=1)
        play = Play(policy, Step(error="refused", others=(("ok",), (), (), ())), after_outage=True).run()

        assert 2 == play.attempts <= bounds_of(policy).worst_attempts

    def test_a_neutral_error_without_retry_after(self):
        """The waits have no part of a Retry-After if each answer that carries one opens the breaker."""
        policy = one_failure_opens(retry_on=ErrorMatcher.of("ERR_CONN_LOST", "503"), count=ErrorMatcher.of("5xx"))

        assert 3 * 5.0 + 1.0 + 2.0 == bounds_of(policy).worst_latency

    @EXAMPLES
    @given(policies())
    def test_latency_is_reached(self, policy):
        """Some call takes as long; where nothing bounds it, as long as one likes."""
        if in_the_corner(policy):
            return
        bounds = bounds_of(policy)
        steps = longest(policy, bounds.worst_attempts)
        if bounds.worst_latency is None:
            assert Play(policy, dataclasses.replace(steps[0], duration=1e6)).run().elapsed >= 1e6
            return
        play = Play(policy, *steps).run()

        assert bounds.worst_latency == play.elapsed


def waiting(deadline: float | None, **layers: Any) -> TargetPolicy:
    """One failure opens the breaker, and the call waits for it to let a trial through: 8 seconds."""
    retry = RetryConfig(
        strategy=RetryStrategy.FIXED_DELAY,
        initial_delay=1.0,
        jitter=Jitter.NONE,
        retry_on=ErrorMatcher.of("TRANSIENT"),
        wait_for_breaker=True,
    )
    breaker = CircuitBreakerConfig(failure_threshold=1, cooldown=8.0)
    timeout = TimeoutConfig(attempt=2.0)
    return TargetPolicy(
        **{"deadline": deadline, "retry": retry, "circuit_breaker": breaker, "timeout": timeout, **layers}
    )


class TestWaitingForTheBreaker:
    @pytest.mark.parametrize(("deadline", "attempts"), [(8.0, 1), (16.0, 2), (17.0, 3), (60.0, 3), (None, 3)])
    def test_attempts_are_reached(self, deadline, attempts):
        """Where every failure opens the breaker, a cooldown lies between two attempts."""
        policy = waiting(deadline)
        play = Play(policy, Step(error="refused")).run()

        assert attempts == bounds_of(policy).worst_attempts == play.attempts

    @pytest.mark.parametrize("deadline", [9.0, 10.0, 30.0])
    def test_the_deadline_is_reached(self, deadline):
        """Others keep the breaker open as long as they like, so that the last attempt ends with the deadline."""
        policy = waiting(deadline)
        # It is refused until just before the deadline; then its only attempt gets no answer.
        play = Play(policy, Step(3.0), open_until=deadline - 2.0).run()

        assert deadline == bounds_of(policy).worst_latency == play.elapsed
        assert 1 == play.attempts

    def test_nothing_bounds_it_without_a_deadline(self):
        """Waiting is no attempt, so it may go on for ever."""
        policy = waiting(None)

        assert bounds_of(policy).worst_latency is None
        assert Play(policy, Step(), open_until=1e4).run().elapsed >= 1e4

    def test_a_breaker_that_never_refuses_is_not_waited_for(self):
        """A shadow lets everything through, so attempts and waits bound the call."""
        breaker = CircuitBreakerConfig(failure_threshold=1, mode=BreakerMode.SHADOW)

        assert 3 * 2.0 + 2 * 1.0 + 2 * 60.0 >= bounds_of(waiting(None, circuit_breaker=breaker)).worst_latency


class TestResults:
    def test_rejected_ones_are_attempts(self):
        """Results that are rejected are neutral to the breaker, so that all attempts are made."""
        retry = RetryConfig(retry_on=ErrorMatcher.of("TRANSIENT"), retry_on_result="is_rejected")
        policy = dataclasses.replace(one_failure_opens(), retry=retry)

        assert 3 == bounds_of(policy).worst_attempts == Play(policy, Step(error=REJECTED)).run().attempts

    @pytest.mark.parametrize(
        ("idempotent", "count"), [(False, ["TRANSIENT"]), (True, ["TRANSIENT", "ERR_RETRY_EXHAUSTED"])]
    )
    def test_unless_they_count_or_must_not_be_repeated(self, idempotent, count):
        """Counted, the first one opens the breaker; and what was sent is not sent again."""
        retry = RetryConfig(retry_on=ErrorMatcher.of("ERR_TIMEOUT_REQUEST"), retry_on_result="is_rejected")
        policy = one_failure_opens(count=ErrorMatcher.of(*count))
        policy = dataclasses.replace(policy, retry=retry, idempotent=idempotent)

        assert 1 == bounds_of(policy).worst_attempts == Play(policy, Step(error=REJECTED)).run().attempts


def opening(outage: Outage, policy: TargetPolicy) -> tuple[float | None, float | None]:
    """The bound of *outage*, and when the breaker really opens."""
    bounds = bounds_of(policy, outage.rate)
    bound = bounds.opens_after_silence if outage.silent else bounds.opens_after
    return bound, outage.opens_after(policy.circuit_breaker.failure_threshold + 2, alone(policy))


RATES = st.sampled_from([0.25, 0.5, 1.0, 2.0, 8.0, 64.0])


class TestOutage:
    @EXAMPLES
    @given(policies(has_breaker=True), RATES, st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 1.0]), seconds(1 / 64, 1))
    def test_is_never_exceeded(self, policy, rate, silent, jitter, phase):
        """Whenever calls come, and however long they wait, the breaker opens in time; without a bound, not at all."""
        bound, opened = opening(Outage(rate, silent, phase=phase, jitter=jitter), policy)

        assert opened is None if bound is None else opened is not None and opened <= bound

    @EXAMPLES
    @given(policies(has_breaker=True), RATES, st.booleans())
    def test_is_reached(self, policy, rate, silent):
        """If the outage begins right after a call, and each wait is the longest, it takes as long."""
        bound, opened = opening(Outage(rate, silent, overhead=2.0**-26), policy)

        assert (bound is None) == (opened is None)
        assert bound is None or 0 <= opened - bound < 1e-6

    def test_a_silent_target_that_is_not_idempotent(self):
        """A timeout doesn't prove that nothing was sent, so only first attempts are there to be counted."""
        retry = RetryConfig(strategy=RetryStrategy.IMMEDIATE)
        breaker = CircuitBreakerConfig(failure_threshold=3)
        policy = TargetPolicy(
            retry=retry, circuit_breaker=breaker, timeout=TimeoutConfig(attempt=0.25), idempotent=False
        )

        assert (1.0, 3.25) == (bounds_of(policy).opens_after, bounds_of(policy).opens_after_silence)
        assert (3.25, 3.25) == opening(Outage(1.0, True), policy)

    def test_a_retry_budget(self):
        """It may be empty, so only first attempts are there to be counted."""
        retry = RetryConfig(strategy=RetryStrategy.IMMEDIATE, budget=RetryBudgetConfig(min_retries=0))
        policy = TargetPolicy(retry=retry, circuit_breaker=CircuitBreakerConfig(failure_threshold=3))
        without = dataclasses.replace(policy, retry=dataclasses.replace(retry, budget=None))
        bound, opened = opening(Outage(1.0, False), policy)

        assert (3.0, 1.0) == (bound, bounds_of(without).opens_after)
        assert opened <= 3.0

    def test_hedges_hold_up_the_next_attempt(self):
        """In silence a round lasts as long as the last attempt in it."""
        retry = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=2)
        policy = TargetPolicy(
            retry=retry,
            hedge=HedgeConfig(delay=1.0, max_hedges=1),
            circuit_breaker=CircuitBreakerConfig(failure_threshold=50, count=ErrorMatcher.of("ERR_TIMEOUT_REQUEST")),
            timeout=TimeoutConfig(attempt=2.0),
            idempotent=True,
        )
        bound, opened = bounds_of(policy, 8.0).opens_after_silence, Outage(8.0, True).opens_after(60, alone(policy))

        assert opened <= bound

    def test_what_the_deadline_cuts(self):
        """It counts only as a first attempt, so later attempts that it cuts don't bring the opening nearer."""
        retry = RetryConfig(strategy=RetryStrategy.IMMEDIATE)
        policy = TargetPolicy(
            deadline=7.0, retry=retry, circuit_breaker=CircuitBreakerConfig(), timeout=TimeoutConfig(attempt=4.0)
        )

        assert (9.0, 9.0) == opening(Outage(1.0, True), policy)

    def test_only_the_deadline_counts(self):
        """An attempt that could last longer than the call fails of the deadline, and of nothing else."""
        breaker = CircuitBreakerConfig(failure_threshold=2, count=ErrorMatcher.of("ERR_TIMEOUT_DEADLINE"))
        policy = TargetPolicy(deadline=7.0, circuit_breaker=breaker, timeout=TimeoutConfig(attempt=9.0))

        assert (9.0, 9.0) == opening(Outage(1.0, True), policy)

    def test_an_encoder_fails_of_its_own(self):
        """It refuses no connection, so a breaker that counts only those never opens."""

        def opens_after(counted: str) -> float | None:
            breaker = CircuitBreakerConfig(failure_threshold=2, count=ErrorMatcher.of(counted))
            config = PolicyConfig(version=1, targets={"encoder.patch": TargetPolicy(circuit_breaker=breaker)})
            return compute_bounds(config, "encoder.patch", rate=1.0).opens_after

        assert (2.0, None) == (opens_after("ERR_ENC_FORWARD_FAILED"), opens_after("ERR_CONN_REFUSED"))

    def test_nothing_ends_an_attempt(self):
        """Without timeout and deadline silence goes on, and no failure is ever counted."""
        bounds = bounds_of(TargetPolicy(circuit_breaker=CircuitBreakerConfig()))

        assert (5.0, None) == (bounds.opens_after, bounds.opens_after_silence)


class TestOutageByRate:
    """A breaker that opens by a rate, after a past in which calls succeeded."""

    @staticmethod
    def play(outage: Outage, policy: TargetPolicy, successes: int = 0) -> tuple[float | None, float | None]:
        """The bound, and when the breaker really opens."""
        bounds = bounds_of(policy, outage.rate)
        bound = bounds.opens_after_silence if outage.silent else bounds.opens_after
        calls = 20 + math.ceil((bound or 0.0) * outage.rate)
        return bound, outage.opens_after(calls, alone(policy, successes))

    @EXAMPLES
    @given(
        policies(has_breaker=True, breakers=rated_breakers()),
        st.sampled_from([0.25, 1.0, 8.0]),
        st.booleans(),
        st.sampled_from([0.0, 0.5, 1.0]),
        seconds(1 / 64, 1),
        st.integers(0, 15),
    )
    def test_is_never_exceeded(self, policy, rate, silent, jitter, phase, successes):
        """Whatever there was before, the breaker opens in time."""
        bound, opened = self.play(Outage(rate, silent, phase=phase, jitter=jitter), policy, successes)

        if bound is not None:
            assert opened is not None
            assert opened <= bound
        elif policy.circuit_breaker.window.calls is not None:
            assert opened is None

    @EXAMPLES
    @given(policies(has_breaker=True, breakers=rated_breakers()), st.sampled_from([0.25, 1.0, 8.0]), st.booleans())
    def test_is_reached(self, policy, rate, silent):
        """If the window was full of successes, or empty, whichever is worse, it takes as long."""
        breaker = policy.circuit_breaker
        size = breaker.window.calls
        if size is None or breaker.slow_call_rate is not None:
            return
        full = share_of(size, breaker.failure_rate) >= breaker.minimum_calls
        bound, opened = self.play(Outage(rate, silent, overhead=2.0**-26), policy, size if full else 0)

        assert (bound is None) == (opened is None)
        assert bound is None or 0 <= opened - bound < 1e-6

    def test_of_slow_calls_is_reached(self):
        """In silence every attempt is slow: the smaller of the two rates opens the breaker."""
        breaker = CircuitBreakerConfig(
            failure_rate=0.9,
            slow_call_rate=0.4,
            slow_call_duration=1.0,
            window=WindowConfig(calls=10),
            minimum_calls=2,
        )
        policy = TargetPolicy(circuit_breaker=breaker, timeout=TimeoutConfig(attempt=2.0))

        assert (9.0, 9.0) == self.play(Outage(1.0, False), policy, 10)
        assert (6.0, 6.0) == self.play(Outage(1.0, True), policy, 10)

    def test_of_a_time_window_is_reached(self):
        """However many calls have succeeded right before, after its period they are forgotten."""
        breaker = CircuitBreakerConfig(failure_rate=1.0, window=WindowConfig(period=10.0), minimum_calls=4)
        policy = TargetPolicy(circuit_breaker=breaker)

        assert (11.0, 10.984375) == self.play(Outage(1.0, False, phase=63 / 64), policy, 500)

    @pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
    def test_of_a_time_window_with_jitter(self, jitter):
        """A shorter wait may bring a failure while successes are still remembered, so that it opens nothing."""
        retry = RetryConfig(initial_delay=0.25, max_delay=0.25, jitter=Jitter.FULL, max_attempts=4)
        breaker = CircuitBreakerConfig(failure_rate=1.0, window=WindowConfig(period=5.0), minimum_calls=1)
        policy = TargetPolicy(retry=retry, circuit_breaker=breaker)
        phases = [(phase + 1) / 64 for phase in range(64)]
        played = [self.play(Outage(1.0, False, phase=phase, jitter=jitter), policy, 1) for phase in phases]

        assert {6.0} == {bound for bound, _ in played}
        assert max(opened for _, opened in played) <= 6.0

    def test_of_a_window_that_holds_just_the_minimum(self):
        """Five seconds hold five calls, if one comes each second: then five open the breaker, and six never would."""
        breaker = CircuitBreakerConfig(failure_rate=1.0, window=WindowConfig(period=5.0), minimum_calls=5)
        policy = TargetPolicy(circuit_breaker=breaker)
        more = dataclasses.replace(policy, circuit_breaker=dataclasses.replace(breaker, minimum_calls=6))

        assert (6.0, 5.984375) == self.play(Outage(1.0, False, phase=63 / 64), policy, 1)
        assert (None, None) == self.play(Outage(1.0, False), more, 1)

    def test_of_calls_that_come_too_slowly(self):
        """Where the window never holds the minimum of calls there is no bound, and the breaker stays closed."""
        breaker = CircuitBreakerConfig(failure_rate=0.5, window=WindowConfig(period=5.0), minimum_calls=4)
        policy = TargetPolicy(circuit_breaker=breaker)

        assert (None, None) == self.play(Outage(0.5, False), policy)

    @pytest.mark.parametrize(
        ("mode", "bound"), [(BreakerMode.SHADOW, 5.0), (BreakerMode.DISABLED, None), (BreakerMode.FORCED_OPEN, 0.0)]
    )
    def test_of_modes(self, mode, bound):
        """A shadow says when it would open; one that is forced open is so from the start; a disabled one never is."""
        policy = TargetPolicy(circuit_breaker=CircuitBreakerConfig(mode=mode))

        assert bound == bounds_of(policy).opens_after
        if bound != 0.0:
            assert bound == self.play(Outage(1.0, False), policy)[1]


class TestForcedOpen:
    def test_costs_nothing(self):
        """No attempt is made, and no time passes."""
        policy = dataclasses.replace(
            one_failure_opens(), circuit_breaker=CircuitBreakerConfig(mode=BreakerMode.FORCED_OPEN)
        )
        bounds = bounds_of(policy)
        play = Play(policy, Step(5.0, "refused")).run()

        assert (0, 0.0) == (bounds.worst_attempts, bounds.worst_latency) == (play.attempts, play.elapsed)


def config_of(*, vision: Vision = Vision.BOTH, **targets: TargetPolicy) -> PolicyConfig:
    """Targets by the last part of their names."""
    names = {name.rpartition(".")[2]: name for name in (GENERATE, *INSIDE_GENERATE)}
    return PolicyConfig(
        version=1,
        lm_studio=LMStudioConfig(vision=vision),
        targets={names[name]: policy for name, policy in targets.items()},
    )


def target(attempt: float, attempts: int = 1, asked: float = 0.0, **more: Any) -> TargetPolicy:
    """A target with a timeout and, after its attempts, waits of one second."""
    retry = RetryConfig(
        strategy=RetryStrategy.FIXED_DELAY,
        max_attempts=attempts,
        initial_delay=1.0,
        jitter=Jitter.NONE,
        retry_after_max=asked,
    )
    return TargetPolicy(timeout=TimeoutConfig(attempt=attempt), retry=retry, **more)


PARTS = {"load": target(2.0), "forward": target(3.0, 2), "chat": target(5.0, 2, 4.0)}
#: load 2, forward 3 + 1 + 3, chat 5 + 4 + 5
INSIDE = 2.0 + 7.0 + 14.0
TWICE = target(1000.0, 2, 6.0)


class TestGenerate:
    @EXAMPLES
    @given(st.data())
    def test_is_never_exceeded(self, data):
        """Whatever the encoder and LM Studio do, no call takes longer or asks LM Studio more often."""
        targets = {name: data.draw(policies()) for name in (GENERATE, *INSIDE_GENERATE)}
        vision = LMStudioConfig(vision=data.draw(st.sampled_from(Vision)))
        config = PolicyConfig(version=1, lm_studio=vision, targets=targets)
        play = GeneratePlay(config, {name: data.draw(adversaries(policy)) for name, policy in targets.items()}).run()
        bounds = compute_bounds(config, GENERATE)

        assert bounds.worst_latency is None or play.elapsed <= bounds.worst_latency
        assert play.attempts[GENERATE] <= bounds.worst_attempts
        assert play.attempts[CHAT] <= bounds.worst_upstream_calls

    @pytest.mark.parametrize(
        ("config", "expected"),
        [
            (config_of(**PARTS, generate=TargetPolicy()), INSIDE),
            (config_of(**PARTS, generate=TargetPolicy(deadline=20.0)), 20.0),
            (config_of(**PARTS, generate=TWICE), INSIDE + 6.0 + INSIDE),
            (config_of(**PARTS, generate=dataclasses.replace(TWICE, deadline=45.0)), 45.0),
            (config_of(**PARTS, generate=target(20.0)), 20.0),
            (config_of(**PARTS, generate=TargetPolicy(), vision=Vision.IMAGE), 14.0),
            (config_of(chat=target(5.0), generate=TargetPolicy(deadline=9.0)), 9.0),
            (config_of(chat=target(5.0), generate=TargetPolicy()), None),
        ],
    )
    def test_latency_is_reached(self, config, expected):
        """The encoder answers at the last moment, the chat fails as late as it can, and all that again."""
        steps = {GENERATE: [Step(jitter=100.0)]}
        for name in INSIDE_GENERATE:
            policy = config.targets.get(name, TargetPolicy())
            steps[name] = longest(policy, compute_bounds(config, name).worst_attempts)
            if name != CHAT:
                steps[name][-1] = dataclasses.replace(steps[name][-1], error=None)
            else:  # the last error asks for the longest wait of generate()
                steps[name][-1] = dataclasses.replace(steps[name][-1], error="503", asked=6.0)
        bounds = compute_bounds(config, GENERATE)

        assert expected == bounds.worst_latency
        # Where generate() itself ends in between, the chat's wait must be one that still fits.
        *most, last = steps[CHAT]
        patient = {**steps, CHAT: [*(dataclasses.replace(step, asked=None) for step in most), last]}
        elapsed = max(GeneratePlay(config, plan).run().elapsed for plan in (steps, patient))
        assert expected is None or expected == elapsed

    @pytest.mark.parametrize(
        ("generate", "expected"),
        [(TargetPolicy(), 2), (TWICE, 4), (dataclasses.replace(TWICE, deadline=0.5), 1)],
    )
    def test_upstream_calls_are_reached(self, generate, expected):
        """Every attempt of generate() makes all attempts of the chat that fit into the deadline."""
        config = config_of(**PARTS, generate=generate)
        once = {name: [Step()] for name in (GENERATE, *INSIDE_GENERATE)}
        play = GeneratePlay(config, {**once, CHAT: [Step(error="refused")]}).run()

        assert expected == compute_bounds(config, GENERATE).worst_upstream_calls == play.attempts[CHAT]

    @pytest.mark.parametrize("silent", [False, True])
    @pytest.mark.parametrize("rate", [0.25, 1.0, 8.0])
    @pytest.mark.parametrize("chat", [target(5.0), target(5.0, 3), target(5.0, 3, deadline=8.0)])
    @pytest.mark.parametrize("generate", [TWICE, target(7.0), target(2.0, 3), target(100.0, deadline=4.0)])
    def test_breaker_of_generate(self, silent, rate, chat, generate):
        """
        What it counts is what the chat ends with, after its own retries.

        If the timeout of generate() itself ends the chat, it may be retried or not: then it can be sooner.
        """
        generate = dataclasses.replace(generate, circuit_breaker=CircuitBreakerConfig(failure_threshold=4))
        config = config_of(chat=chat, generate=generate)
        bounds = compute_bounds(config, GENERATE, rate=rate)
        bound = bounds.opens_after_silence if silent else bounds.opens_after
        opened = Outage(rate, silent, overhead=2.0**-26).opens_after(6, nested(config))

        assert bound is not None
        assert opened is not None
        assert opened - bound < 1e-6
        assert opened >= bound or (silent and generate.timeout.attempt < 5.0)

    @pytest.mark.parametrize("jitter", [0.0, 0.25, 1.0])
    @pytest.mark.parametrize("silent", [False, True])
    def test_breaker_of_generate_with_jitter_in_the_chat(self, silent, jitter):
        """A shorter wait leaves room for another attempt, which the deadline cuts: the chat ends later for it."""
        retry = RetryConfig(strategy=RetryStrategy.FIXED_DELAY, initial_delay=3.0, jitter=Jitter.FULL, max_attempts=4)
        chat = TargetPolicy(deadline=10.0, timeout=TimeoutConfig(attempt=4.0), retry=retry)
        generate = TargetPolicy(circuit_breaker=CircuitBreakerConfig(failure_threshold=2))
        config = config_of(chat=chat, generate=generate)
        bounds = compute_bounds(config, GENERATE)
        opened = Outage(1.0, silent, jitter=jitter).opens_after(6, nested(config))

        assert opened <= (bounds.opens_after_silence if silent else bounds.opens_after)

    def test_breaker_of_generate_and_a_budget_of_the_chat(self):
        """Nobody can say with which attempt the chat ends."""
        chat = dataclasses.replace(target(5.0, 3), retry=RetryConfig(budget=RetryBudgetConfig()))
        config = config_of(chat=chat, generate=TargetPolicy(circuit_breaker=CircuitBreakerConfig()))

        assert compute_bounds(config, GENERATE).opens_after is None

    @pytest.mark.parametrize(
        "between",
        [
            {"circuit_breaker": CircuitBreakerConfig(failure_threshold=2)},
            {"fallback": (FallbackStep(FallbackStrategy.NONE),)},
        ],
    )
    def test_breaker_behind_another(self, between):
        """The chat's own breaker or fallback keeps its failures from generate(), whose breaker then need not open."""
        breaker = CircuitBreakerConfig(failure_threshold=4)
        config = config_of(chat=target(5.0, **between), generate=TargetPolicy(circuit_breaker=breaker))

        assert compute_bounds(config, GENERATE).opens_after is None


class TestOpensAfterTheChat:
    def test_whose_waits_may_outlast_its_deadline(self):
        """With jitter the chat may try again or not, but it has failed at its deadline, which opens the breaker."""
        retry = RetryConfig(strategy=RetryStrategy.FIXED_DELAY, max_attempts=3, initial_delay=30.0, jitter=Jitter.FULL)
        chat = TargetPolicy(deadline=10.0, timeout=TimeoutConfig(attempt=2.0), retry=retry)
        generate = TargetPolicy(deadline=60.0, circuit_breaker=CircuitBreakerConfig(failure_threshold=2))
        bounds = compute_bounds(config_of(chat=chat, generate=generate), GENERATE)

        assert (12.0, 12.0) == (bounds.opens_after, bounds.opens_after_silence)

    def test_whose_hedge_may_outlast_its_deadline(self):
        """An attempt that was sent beside the last one is cut by the deadline as well."""
        chat = TargetPolicy(
            deadline=10.0,
            timeout=TimeoutConfig(attempt=9.0),
            hedge=HedgeConfig(delay=4.0, max_hedges=1),
            idempotent=True,
        )
        generate = TargetPolicy(deadline=60.0, circuit_breaker=CircuitBreakerConfig(failure_threshold=2))
        config = config_of(chat=chat, generate=generate)

        assert 12.0 == compute_bounds(config, GENERATE).opens_after_silence
        assert 12.0 == Outage(1.0, True).opens_after(6, nested(config))


class TestCacheBytes:
    @settings(max_examples=100, deadline=None)
    @given(
        st.integers(1, 200_000),
        st.integers(1, 50),
        st.lists(st.tuples(st.integers(0, 80), st.integers(0, 20_000)), max_size=150),
    )
    def test_is_never_exceeded(self, size, entries, stores):
        """However many results of whatever size are stored, the cache stays within its memory."""
        cache = ResultCache(CacheConfig(max_bytes=size, max_entries=entries))
        for key, length in stores:
            cache.store(f"key {key}", "x" * length)

            assert cache.memory() <= size
            assert len(cache) <= entries

    def test_holds_for_the_process(self):
        """What the process really takes for a full cache is within the bound, and near it for large results."""
        cache = ResultCache(CacheConfig(max_bytes=4 * 1024 * 1024, max_entries=100_000))
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for number in range(3_000):
            cache.store(f"key {number}", chr(97 + number % 26) * (2_000 + number % 3_000))
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()

        assert 0.6 * 4 * 1024 * 1024 < taken <= 4 * 1024 * 1024

    def test_is_that_of_the_policy(self):
        """The bound is what the step says."""
        step = FallbackStep(FallbackStrategy.CACHE, cache=CacheConfig(max_bytes=12345))

        assert 12345 == bounds_of(TargetPolicy(fallback=(step,))).cache_bytes
        assert 0 == bounds_of(TargetPolicy()).cache_bytes


class TestShippedProfiles:
    @pytest.mark.parametrize("profile", ["basic", "production", "development", "high-throughput", "low-latency"])
    def test_are_bounded(self, profile):
        """Every target of a shipped profile ends, and its breaker opens whatever the outage."""
        config = load_policy(profile=profile, variables={}).config
        for name, bounds in all_bounds(config).items():
            assert bounds.worst_latency is not None
            if config.targets[name].circuit_breaker is not None:
                assert None not in (bounds.opens_after, bounds.opens_after_silence)

    def test_production(self):
        """The numbers, as the documentation states them."""
        bounds = compute_bounds(load_policy(profile="production", variables={}).config, CHAT)

        assert (120.0, 3, 3.0, 35.0) == (
            bounds.worst_latency, bounds.worst_attempts, bounds.opens_after, bounds.opens_after_silence,
        )  # fmt: skip
