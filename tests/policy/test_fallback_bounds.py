"""What fallbacks and caches add to the bounds, held against real stacks in virtual time."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixel_llm.errors import ConnectionError, ErrorCode
from pixel_llm.policy import (
    BreakerMode,
    BulkheadConfig,
    CacheConfig,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    PolicyConfig,
    RateLimitConfig,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
)
from pixel_llm.policy.bounds import CHAT, GENERATE, compute_bounds
from pixel_llm.resilience import Stack, current_limits, guard
from pixel_llm.resilience.fallbacks.wrapped import WrappedTargets
from pixel_llm.testing import VirtualClock

CUSTOM, TARGET = FallbackStrategy.CUSTOM_FUNCTION, FallbackStrategy.TARGET
MODEL, ENDPOINT = FallbackStrategy.MODEL, FallbackStrategy.ENDPOINT
THRICE = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=3)
FIVE = TimeoutConfig(attempt=5.0)


def step(strategy, value="x", reserve=None):
    return FallbackStep(strategy, value=value, reserve=reserve)


def bounds(policy, others=None, target="a.b"):
    return compute_bounds(PolicyConfig(version=1, targets={target: policy, **(others or {})}), target)


class TestLatency:
    @pytest.mark.parametrize(
        ("layers", "expected"),
        [
            ({"timeout": FIVE, "fallback": (step(MODEL),)}, 10.0),
            ({"timeout": FIVE, "fallback": (step(MODEL), step(ENDPOINT))}, 15.0),
            ({"timeout": FIVE, "fallback": (step(MODEL),), "deadline": 8.0}, 8.0),
            ({"fallback": (step(MODEL),), "deadline": 8.0}, 8.0),
            ({"timeout": FIVE, "fallback": (step(CUSTOM),)}, None),
            ({"timeout": FIVE, "fallback": (step(CUSTOM),), "deadline": 8.0}, 8.0),
            ({"timeout": FIVE, "retry": THRICE, "deadline": 12.0, "fallback": (step(MODEL, reserve=4.0),)}, 12.0),
            ({"timeout": FIVE, "fallback": (step(FallbackStrategy.NONE),)}, 5.0),
            ({"timeout": FIVE, "fallback": (step(TARGET, "a.later"),)}, 5.0 + 2.0),
            ({"timeout": FIVE, "cache": CacheConfig()}, None),
            ({"timeout": FIVE, "cache": CacheConfig(), "deadline": 30.0}, 30.0),
        ],
    )
    def test_is_that_of_the_attempts_and_of_each_step(self, layers, expected):
        """
        Steps come after the attempts, one after the other, within the deadline.
        """
        later = TargetPolicy(timeout=TimeoutConfig(attempt=2.0))

        assert expected == bounds(TargetPolicy(**layers), {"a.later": later}).worst_latency

    @pytest.mark.parametrize(
        ("layers", "expected"),
        [
            ({"bulkhead": BulkheadConfig(max_concurrent=1, max_waiting=1, max_wait=3.0)}, 3.0 + 5.0 + 3.0 + 5.0),
            ({"bulkhead": BulkheadConfig(max_concurrent=1, max_waiting=1), "deadline": 40.0}, 40.0),
            ({"rate_limit": RateLimitConfig(max_calls=1, max_wait=2.0)}, 2.0 + 5.0 + 2.0 + 5.0),
            ({"timeout": TimeoutConfig(attempt=5.0, first_token=7.0)}, 7.0 + 7.0),
            ({"circuit_breaker": CircuitBreakerConfig(mode=BreakerMode.FORCED_OPEN)}, 0.0 + 5.0),
        ],
    )
    def test_another_model_queues_and_begins_streams_as_the_first_does(self, layers, expected):
        """
        What makes the call elsewhere has the layers of one attempt: it may wait there, too, and its first content may
        take longer than a whole answer. A breaker that is forced open is so for the first model alone.
        """
        policy = TargetPolicy(**{"timeout": FIVE, "fallback": (step(MODEL),), **layers})

        assert expected == bounds(policy).worst_latency

    def test_a_target_that_a_pattern_gives(self):
        """
        A step may name a target that only a pattern covers.
        """
        policy = TargetPolicy(timeout=FIVE, fallback=(step(TARGET, "b.later"),))

        assert 7.0 == bounds(policy, {"b.*": TargetPolicy(timeout=TimeoutConfig(attempt=2.0))}).worst_latency


class TestCalls:
    def test_each_step_adds_its_own(self):
        """
        A model and an endpoint are one call each, another target as many as it makes.
        """
        policy = TargetPolicy(retry=THRICE, idempotent=True, fallback=(step(MODEL), step(ENDPOINT), step(CUSTOM)))
        named = TargetPolicy(fallback=(step(TARGET, "a.later"),))
        found = bounds(policy), bounds(named, {"a.later": TargetPolicy(retry=THRICE, idempotent=True)})

        assert [(3, 5), (1, 4)] == [(b.worst_attempts, b.worst_upstream_calls) for b in found]

    def test_generate_has_those_of_the_chat(self):
        """
        Each attempt of generate() may end with the chat's fallback.
        """
        chat = TargetPolicy(retry=THRICE, fallback=(step(MODEL),))
        found = bounds(TargetPolicy(fallback=(step(TARGET, CHAT),)), {CHAT: chat}, target=GENERATE)

        assert 4 + 4 == found.worst_upstream_calls

    def test_attempts_that_begin_in_the_time_kept_are_not_made(self):
        """
        What is kept for the fallback is no time for attempts.
        """
        retry = RetryConfig(strategy=RetryStrategy.FIXED_DELAY, initial_delay=4.0, max_attempts=3, jitter="none")
        with_all, without = (
            TargetPolicy(retry=retry, idempotent=True, deadline=9.0, fallback=(step(CUSTOM, reserve=reserve),))
            for reserve in (None, 3.0)
        )

        assert [3, 2] == [bounds(policy).worst_attempts for policy in (with_all, without)]


class TestCaches:
    def test_memory_is_that_of_both(self):
        """
        The layer and the fallback's step keep results by themselves.
        """
        policy = TargetPolicy(
            cache=CacheConfig(max_bytes=1000),
            fallback=(FallbackStep(FallbackStrategy.CACHE, cache=CacheConfig(max_bytes=500)),),
        )

        assert 1500 == bounds(policy).cache_bytes

    @pytest.mark.parametrize("target", ["a.b", GENERATE])
    def test_nobody_knows_when_the_breaker_opens(self, target):
        """
        Calls that a cache answers do not fail.
        """
        breaker = TargetPolicy(circuit_breaker=CircuitBreakerConfig())
        cached = TargetPolicy(circuit_breaker=CircuitBreakerConfig(), cache=CacheConfig())
        inner = {CHAT: TargetPolicy(timeout=FIVE)}
        before, after = bounds(breaker, inner, target), bounds(cached, inner, target)

        assert before.opens_after is not None
        assert (None, None) == (after.opens_after, after.opens_after_silence)


durations = st.sampled_from([0.0, 1.0, 3.0, 7.0, 100.0])


class TestAgainstRealStacks:
    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(st.tuples(st.sampled_from([MODEL, TARGET, CUSTOM]), st.sampled_from([None, 2.0])), max_size=3),
        st.sampled_from([None, 4.0, 9.0, 30.0]),
        st.sampled_from([None, 5.0]),
        st.lists(durations, min_size=1),
        st.integers(1, 3),
    )
    def test_are_never_exceeded(self, kinds, deadline, timeout, took, attempts):
        """
        Whatever fails, and however long it takes until its limits end it: no call takes longer or calls more often.
        """
        clock, called, times = VirtualClock(1000.0), [], iter(took * 20)
        started = clock.monotonic()

        def attempt(*args):
            """Fails after its time, or when its limits end it."""
            called.append(args)
            longest = current_limits().remaining()
            duration = next(times)
            clock.advance(duration if longest is None else min(duration, longest))
            raise ConnectionError("gone", error_code=ErrorCode.ERR_CONN_LOST)

        steps = tuple(
            step(kind, "a.later" if kind is TARGET else f"x{number}", reserve)
            for number, (kind, reserve) in enumerate(kinds)
        )
        retry = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=attempts)
        policy = TargetPolicy(
            deadline=deadline,
            timeout=TimeoutConfig(attempt=timeout) if timeout else None,
            retry=retry,
            idempotent=True,
            fallback=steps or None,
        )
        later = TargetPolicy(timeout=TimeoutConfig(attempt=2.0), retry=retry, idempotent=True)
        wrapped = WrappedTargets(["a.later"])
        more = {"clock": clock, "wrapped": wrapped, "find_function": lambda name: lambda: attempt()}
        guard(Stack("a.later", later, **more), attempt, cooperative=True)
        guarded = guard(Stack("a.b", policy, **more), attempt, cooperative=True, alternative=lambda kind, name: attempt)
        with contextlib.suppress(ConnectionError, TimeoutError):
            guarded()
        found = bounds(policy, {"a.later": later})
        functions = sum(kind is CUSTOM for kind, _ in kinds)

        assert len(called) <= found.worst_upstream_calls + functions
        assert found.worst_latency is None or clock.monotonic() - started <= found.worst_latency + 1e-6
