"""What a successful call costs: our stack and the peers', around a function that does nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nopanic
import pybreaker
import pyresilience
import stamina
import tenacity

from benchmarks.measure import per_await, per_call
from pixel_llm.resilience import (
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    RetryConfig,
    Stack,
    TargetPolicy,
    guard,
)


def _nothing() -> None:
    return None


async def _nothing_async() -> None:
    return None


def _ours(function: Callable[..., Any]) -> Callable[..., Any]:
    policy = TargetPolicy(
        deadline=60.0,
        retry=RetryConfig(),
        circuit_breaker=CircuitBreakerConfig(),
        fallback=(FallbackStep(FallbackStrategy.DEFAULT_VALUE, None, "sorry"),),
    )
    return guard(Stack("bench", policy), function)


def _nopanic(function: Callable[..., Any]) -> Callable[..., Any]:
    guarded = nopanic.circuit_breaker(failure_threshold=0.5, name=f"bench {function.__name__}")(function)
    return nopanic.retry(attempts=3, on=ConnectionError)(guarded)


def _pyresilience(function: Callable[..., Any]) -> Callable[..., Any]:
    decorate = pyresilience.resilient(
        retry=pyresilience.RetryConfig(max_attempts=3), circuit_breaker=pyresilience.CircuitBreakerConfig()
    )
    return decorate(function)


def _tenacity(function: Callable[..., Any]) -> Callable[..., Any]:
    return tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_random_exponential(1, 60))(function)


def _stamina(function: Callable[..., Any]) -> Callable[..., Any]:
    return stamina.retry(on=ConnectionError, attempts=3)(function)


def sync_success() -> dict[str, float]:
    """Seconds a sync call that succeeds."""
    return per_call(
        {
            "the function itself": _nothing,
            "pixel-llm: deadline + fallback + retry + breaker": _ours(_nothing),
            "nopanic: retry + breaker": _nopanic(_nothing),
            "pyresilience: retry + breaker": _pyresilience(_nothing),
            "tenacity(pybreaker)": _tenacity(pybreaker.CircuitBreaker()(_nothing)),
            "stamina: retry": _stamina(_nothing),
        },
        calls=5_000,
    )


def async_success() -> dict[str, float]:
    """Seconds an async call that succeeds."""
    return per_await(
        {
            "the coroutine function itself": _nothing_async,
            "pixel-llm: deadline + fallback + retry + breaker": _ours(_nothing_async),
            "nopanic: retry + breaker": _nopanic(_nothing_async),
            "pyresilience: retry + breaker": _pyresilience(_nothing_async),
            "tenacity": _tenacity(_nothing_async),
            "stamina: retry": _stamina(_nothing_async),
        },
        calls=3_000,
    )
