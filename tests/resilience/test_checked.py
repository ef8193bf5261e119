"""Configs that are made in code and given to a stack or a breaker straight away."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.policy import (
    AdaptiveConfig,
    BulkheadConfig,
    CacheConfig,
    ChaosConfig,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    HedgeConfig,
    RateLimitConfig,
    RetryConfig,
    TargetPolicy,
    TimeoutConfig,
    WindowConfig,
)
from pixel_llm.policy.sections.chaos import ChaosError
from pixel_llm.resilience import CircuitBreaker, Stack, guard, retry, with_circuit_breaker

WHOLE = TargetPolicy(
    deadline=10.0,
    fallback=(
        FallbackStep(FallbackStrategy.CACHE, cache=CacheConfig(ttl=60.0)),
        FallbackStep(FallbackStrategy.TARGET, value="shop.other", reserve=1.0),
        FallbackStep(FallbackStrategy.NONE),
    ),
    cache=CacheConfig(ttl=60.0),
    retry=RetryConfig(),
    hedge=HedgeConfig(delay=1.0),
    circuit_breaker=CircuitBreakerConfig(failure_rate=0.5),
    rate_limit=RateLimitConfig(max_calls=3),
    bulkhead=BulkheadConfig(adaptive=AdaptiveConfig()),
    timeout=TimeoutConfig(attempt=3.0),
    chaos=ChaosConfig(error=ChaosError(rate=0.5, codes=(ErrorCode.ERR_CONN_LOST,))),
    idempotent=True,
)


class TestStack:
    def test_takes_what_a_policy_could_say(self):
        """
        Every layer with settings that go together.
        """
        assert WHOLE is Stack("shop.pay", WHOLE).policy

    @pytest.mark.parametrize(
        ("policy", "text"),
        [
            (TargetPolicy(deadline="3s"), "deadline must be more than 0 seconds"),
            (TargetPolicy(deadline=inf), "deadline must be more than 0 seconds"),
            (TargetPolicy(deadline=nan), "deadline must be more than 0 seconds"),
            (TargetPolicy(retry={"max_attempts": 3}), "retry must be a RetryConfig"),
            (TargetPolicy(retry=RetryConfig(max_attempts=0)), "retry max_attempts must be a whole number from 1"),
            (TargetPolicy(retry=RetryConfig(initial_delay=5.0, max_delay=1.0)), "retry.max_delay must be at least"),
            (TargetPolicy(idempotent="yes"), "idempotent must be True or False"),
            (TargetPolicy(hedge=HedgeConfig()), "hedge must have either `delay` or `quantile`"),
            (TargetPolicy(hedge=HedgeConfig(delay=1.0, quantile=0.9)), "hedge must have either"),
            (TargetPolicy(hedge=HedgeConfig(quantile=0.9, min_delay=90.0)), "hedge.max_delay max_delay must be at"),
            (TargetPolicy(rate_limit=RateLimitConfig()), "rate_limit limits nothing"),
            (TargetPolicy(rate_limit=RateLimitConfig(max_calls=0)), "rate_limit max_calls must be a whole number"),
            (TargetPolicy(bulkhead=BulkheadConfig(max_concurrent=True)), "bulkhead max_concurrent must be a whole"),
            (
                TargetPolicy(bulkhead=BulkheadConfig(max_concurrent=2, adaptive=AdaptiveConfig(min_limit=3))),
                "bulkhead.adaptive.min_limit must be at most max_concurrent, 2",
            ),
            (TargetPolicy(chaos=ChaosConfig()), "chaos injects nothing"),
            (
                TargetPolicy(chaos=ChaosConfig(error=ChaosError(rate=0.5, codes=()))),
                "chaos error codes must be a tuple that is not empty",
            ),
            (
                TargetPolicy(circuit_breaker=CircuitBreakerConfig(slow_call_rate=0.5)),
                "circuit_breaker.slow_call_rate needs slow_call_duration beside it",
            ),
            (TargetPolicy(fallback=3), "fallback must be a tuple that is not empty"),
            (TargetPolicy(fallback=()), "fallback must be a tuple that is not empty"),
            (TargetPolicy(fallback=(3,)), "must be a FallbackStep"),
            (TargetPolicy(fallback=(FallbackStep(FallbackStrategy.CACHE),)), "needs cache=CacheConfig"),
            (
                TargetPolicy(fallback=(FallbackStep(FallbackStrategy.CACHE, cache=CacheConfig(ttl=0.0)),)),
                "FallbackStep: cache ttl must be more than 0 seconds",
            ),
            (
                TargetPolicy(fallback=(FallbackStep(FallbackStrategy.NONE, when=["TRANSIENT"]),)),
                "FallbackStep: when must be an ErrorMatcher",
            ),
            (
                TargetPolicy(fallback=(FallbackStep(FallbackStrategy.TARGET, value="a.b", reserve=-1.0),)),
                "FallbackStep: reserve must be more than 0 seconds",
            ),
            (TargetPolicy(fallback=(FallbackStep(FallbackStrategy.TARGET),)), "a step TARGET needs a name"),
            ({"retry": {}}, "must be a TargetPolicy"),
            (None, "must be a TargetPolicy"),
        ],
    )
    def test_a_config_made_by_hand_was_not_checked(self, policy: Any, text: str):
        """
        What a policy could not say is refused when the stack is made, with the setting's name.
        """
        with pytest.raises(ValidationError) as caught:
            Stack("shop.pay", policy)

        assert text in str(caught.value)

    @pytest.mark.parametrize("target", ["", None, 3])
    def test_needs_a_name(self, target: Any):
        """
        Errors and events call it by that.
        """
        with pytest.raises(ValidationError, match="a target is named by a text"):
            Stack(target, TargetPolicy())


class TestCircuitBreaker:
    @pytest.mark.parametrize(
        ("config", "text"),
        [
            ({"failure_threshold": 3}, "must be a CircuitBreakerConfig"),
            (CircuitBreakerConfig(failure_threshold=0), "failure_threshold must be a whole number from 1"),
            (CircuitBreakerConfig(cooldown=0.0), "cooldown must be more than 0 seconds"),
            (CircuitBreakerConfig(cooldown=9.0, max_cooldown=1.0), "max_cooldown must be at least cooldown"),
            (
                CircuitBreakerConfig(failure_rate=0.5, window=WindowConfig(calls=5, period=5.0)),
                "window has calls and period",
            ),
        ],
    )
    def test_a_config_made_by_hand_was_not_checked(self, config: Any, text: str):
        """
        It is refused with the breaker's name.
        """
        with pytest.raises(ValidationError, match=text) as caught:
            CircuitBreaker("shop.pay", config)

        assert "shop.pay: CircuitBreakerConfig: " in str(caught.value)


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
@pytest.mark.parametrize(
    "put_on",
    [lambda function: guard(Stack("shop.pay", TargetPolicy()), function), retry(), with_circuit_breaker()],
)
def test_a_guard_above_a_static_or_class_method_bound_it_wrongly(put_on: Any, kind: Any):
    """
    It is refused when the class is made, with the way out; the other way round works.
    """
    with pytest.raises(ValidationError, match=f"write @{kind.__name__} above the guard, not below"):
        put_on(kind(lambda *args: args))

    class Shop:
        pay = kind(put_on(lambda *args: args[-1]))

    assert (3, 3) == (Shop.pay(3), Shop().pay(3))
