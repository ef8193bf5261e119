"""What a call costs: our stack and the peers', around a function that does nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import nopanic
import pybreaker
import pyresilience
import stamina
import tenacity

from benchmarks.measure import per_await, per_call
from pixel_llm.errors import PixelLMError
from pixel_llm.resilience import (
    BulkheadConfig,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    RetryConfig,
    RetryStrategy,
    Stack,
    TargetPolicy,
    TimeoutConfig,
    guard,
)

OURS = "pixel-llm: deadline + fallback + retry + breaker + counters"


def _nothing() -> None:
    return None


async def _nothing_async() -> None:
    return None


async def _suspends_once() -> None:
    await asyncio.sleep(0)


def ours(function: Callable[..., Any], **layers: Any) -> Callable[..., Any]:
    policy = {
        "deadline": 60.0,
        "retry": RetryConfig(),
        "circuit_breaker": CircuitBreakerConfig(),
        "fallback": (FallbackStep(FallbackStrategy.DEFAULT_VALUE, None, "sorry"),),
    }
    return guard(Stack("bench", TargetPolicy(**(policy | layers))), function)


def _nopanic(function: Callable[..., Any], timeout: float | None = None) -> Callable[..., Any]:
    guarded = function if timeout is None else nopanic.timeout(timeout)(function)
    guarded = nopanic.circuit_breaker(failure_threshold=0.5, name=f"bench {function.__name__} {timeout}")(guarded)
    return nopanic.retry(attempts=3, on=ConnectionError)(guarded)


def _pyresilience(function: Callable[..., Any], **layers: Any) -> Callable[..., Any]:
    decorate = pyresilience.resilient(
        retry=pyresilience.RetryConfig(max_attempts=3), circuit_breaker=pyresilience.CircuitBreakerConfig(), **layers
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
            "nopanic: retry + breaker": _nopanic(_nothing),
            OURS: ours(_nothing),
            "the function itself": _nothing,
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
            "nopanic: retry + breaker": _nopanic(_nothing_async),
            OURS: ours(_nothing_async),
            "the coroutine function itself": _nothing_async,
            "pyresilience: retry + breaker": _pyresilience(_nothing_async),
            "tenacity": _tenacity(_nothing_async),
            "stamina: retry": _stamina(_nothing_async),
        },
        calls=3_000,
    )


def async_with_timeout_and_bulkhead() -> dict[str, float]:
    """Seconds an async call that suspends once and succeeds."""
    layers = {"timeout": TimeoutConfig(attempt=5.0), "bulkhead": BulkheadConfig(max_concurrent=4)}
    more = {
        "timeout": pyresilience.TimeoutConfig(seconds=5.0),
        "bulkhead": pyresilience.BulkheadConfig(max_concurrent=4),
    }
    return per_await(
        {
            "nopanic: retry + breaker + timeout": _nopanic(_suspends_once, 5.0),
            f"{OURS} + timeout + bulkhead": ours(_suspends_once, **layers),
            "the coroutine function itself": _suspends_once,
            "pyresilience: retry + breaker + timeout + bulkhead": _pyresilience(_suspends_once, **more),
        },
        calls=2_000,
    )


def refusal() -> dict[str, float]:
    """Seconds until an open breaker has refused a call, and until an exception that was raised is caught."""
    breaker = CircuitBreakerConfig(failure_threshold=1)
    stack = Stack("bench", TargetPolicy(deadline=60.0, retry=RetryConfig(), circuit_breaker=breaker))
    assert stack.breaker is not None
    stack.breaker.record_failure()
    refused = guard(stack, _nothing)

    def raises() -> None:
        raise ConnectionError("gone")

    def caught() -> None:
        try:  # noqa: SIM105 - suppress() would cost more than what is measured
            raises()
        except ConnectionError:
            pass

    def caught_refusal() -> None:
        try:  # noqa: SIM105
            refused()
        except PixelLMError:
            pass

    return per_call({"an exception": caught, "pixel-llm: a refusal of an open breaker": caught_refusal}, calls=5_000)


def one_retry() -> dict[str, float]:
    """Seconds a call that fails once, and succeeds when it is tried again at once."""
    at_once = RetryConfig(strategy=RetryStrategy.IMMEDIATE)
    theirs = tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())
    return per_call({"tenacity": theirs(_fails_first()), OURS: ours(_fails_first(), retry=at_once)}, calls=1_000)


def one_retry_async() -> dict[str, float]:
    """The same on asyncio."""
    at_once = RetryConfig(strategy=RetryStrategy.IMMEDIATE)
    theirs = tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())

    def fails_first_async() -> Callable[..., Any]:
        fails_first = _fails_first()

        async def call() -> None:
            fails_first()

        return call

    return per_await(
        {"tenacity": theirs(fails_first_async()), OURS: ours(fails_first_async(), retry=at_once)}, calls=1_000
    )


def _fails_first() -> Callable[..., Any]:
    numbers = itertools.count()

    def call() -> None:
        if next(numbers) % 2 == 0:
            raise ConnectionError("gone")

    return call
