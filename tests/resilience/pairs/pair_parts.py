"""Layers and errors that the cases are made of."""

from __future__ import annotations

from typing import Any

from pixel_llm.errors import APIError, ConnectionError, ErrorCode
from pixel_llm.policy import (
    BulkheadConfig,
    CacheConfig,
    ChaosConfig,
    ChaosDelay,
    ChaosError,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    HedgeConfig,
    RateLimitConfig,
    RetryConfig,
    RetryStrategy,
    TimeoutConfig,
)
from pixel_llm.resilience.chaos import Chaos
from pixel_llm.testing import VirtualClock

LOST = ErrorCode.ERR_CONN_LOST
REFUSED = ErrorCode.ERR_CB_OPEN
DEADLINE = ErrorCode.ERR_TIMEOUT_DEADLINE
TIMEOUT = ErrorCode.ERR_TIMEOUT_REQUEST
RATE = ErrorCode.ERR_LIMIT_RATE
FULL = ErrorCode.ERR_LIMIT_BULKHEAD

SORRY = (FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="sorry"),)
AT_ONCE = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=3)
MINUTE = CacheConfig(ttl=60.0)
ONE_SLOT = BulkheadConfig(max_concurrent=1)
ONE_SLOT_AND_A_QUEUE = BulkheadConfig(max_concurrent=1, max_waiting=9)


def lost() -> Exception:
    """An error that is retried, counted, and served for."""
    return ConnectionError("gone", error_code=LOST)


def wrong_key() -> Exception:
    """An error that is neither retried nor counted nor served for."""
    return APIError("who are you", error_code=ErrorCode.ERR_API_UNAUTHORIZED)


def asks_a_function(**more: Any) -> tuple[FallbackStep, ...]:
    """A fallback that asks the function ``ask``."""
    return (FallbackStep(FallbackStrategy.CUSTOM_FUNCTION, value="ask", **more),)


def waits(seconds: float, attempts: int = 3, **more: Any) -> RetryConfig:
    """Retries, so many seconds apart."""
    fixed: dict[str, Any] = {"strategy": RetryStrategy.FIXED_DELAY, "jitter": "none", "initial_delay": seconds}
    return RetryConfig(max_attempts=attempts, **fixed, **more)


def opens_after(failures: int, cooldown: float = 8.0, **more: Any) -> CircuitBreakerConfig:
    """A breaker that closes with its first good trial."""
    return CircuitBreakerConfig(failure_threshold=failures, cooldown=cooldown, **{"success_threshold": 1, **more})


def rate(calls: int, period: float, max_wait: float = 0.0) -> RateLimitConfig:
    """So many starts in any window of *period* seconds."""
    return RateLimitConfig(max_calls=calls, period=period, max_wait=max_wait)


def timeout(seconds: float) -> TimeoutConfig:
    """So many seconds for each attempt."""
    return TimeoutConfig(attempt=seconds)


def injects(code: ErrorCode = LOST, rate: float = 1.0, **more: Any) -> ChaosConfig:
    """Attempts fail without the callable being called."""
    return ChaosConfig(error=ChaosError(rate=rate, codes=(code,)), **more)


def delays(seconds: float, rate: float = 1.0, **more: Any) -> ChaosConfig:
    """Attempts begin late."""
    return ChaosConfig(delay=ChaosDelay(rate=rate, duration=seconds), **more)


def seed_that(*fail: bool, target: str = "shop.pay") -> int:
    """A seed with which, of attempts that fail at a rate of a half, the first ones fail as told."""
    for seed in range(1000):
        chaos = Chaos(target, injects(LOST, 0.5, seed=seed), clock=VirtualClock())
        if [chaos.draw().error_code is not None for _ in fail] == list(fail):
            return seed
    raise AssertionError("there is none")


def beside(delay: float, hedges: int = 1) -> HedgeConfig:
    """Another attempt beside one that takes longer than *delay* seconds."""
    return HedgeConfig(delay=delay, max_hedges=hedges)
