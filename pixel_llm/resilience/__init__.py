"""Configs in, guarded callables out. The only room with tenacity and pybreaker, each in one module."""

from pixel_llm.policy import (
    AdaptiveConfig,
    BreakerMode,
    BulkheadConfig,
    CacheConfig,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    Jitter,
    RateLimitConfig,
    RetryBudgetConfig,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
    TokenLimitConfig,
    WindowConfig,
)
from pixel_llm.resilience.breaker.circuit_breaker import CircuitBreaker
from pixel_llm.resilience.breaker.keyed import KeyedBreakers
from pixel_llm.resilience.breaker.state import CircuitState
from pixel_llm.resilience.caching.cache import CachedResult, ResultCache
from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock, SystemClock
from pixel_llm.resilience.counters import Histogram, StackStats
from pixel_llm.resilience.decorators import (
    retry,
    retry_on_connection_error,
    retry_on_timeout,
    with_circuit_breaker,
    with_fallback,
)
from pixel_llm.resilience.description import Layer
from pixel_llm.resilience.limits import Limits, current_limits
from pixel_llm.resilience.managers import FallbackConfig, FallbackManager, FallbackStats, RetryManager, RetryStats
from pixel_llm.resilience.outcome import Outcome, SkippedStep
from pixel_llm.resilience.queues.admission import Admission
from pixel_llm.resilience.queues.bulkhead import Bulkhead
from pixel_llm.resilience.queues.rate_limit import RateLimit
from pixel_llm.resilience.registry import find_function, register_function
from pixel_llm.resilience.retrying.budget import RetryBudget
from pixel_llm.resilience.retrying.retry import RetryState
from pixel_llm.resilience.roads.guard import Guarded, guard
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.streams.async_stream import AsyncStream
from pixel_llm.resilience.streams.sync_stream import SyncStream

__all__ = [
    "SYSTEM_CLOCK",
    "AdaptiveConfig",
    "Admission",
    "AsyncStream",
    "BreakerMode",
    "Bulkhead",
    "BulkheadConfig",
    "CacheConfig",
    "CachedResult",
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitState",
    "Clock",
    "FallbackConfig",
    "FallbackManager",
    "FallbackStats",
    "FallbackStep",
    "FallbackStrategy",
    "Guarded",
    "Histogram",
    "Jitter",
    "KeyedBreakers",
    "Layer",
    "Limits",
    "Outcome",
    "RateLimit",
    "RateLimitConfig",
    "ResultCache",
    "RetryBudget",
    "RetryBudgetConfig",
    "RetryConfig",
    "RetryManager",
    "RetryState",
    "RetryStats",
    "RetryStrategy",
    "SkippedStep",
    "Stack",
    "StackStats",
    "SyncStream",
    "SystemClock",
    "TargetPolicy",
    "TimeoutConfig",
    "TokenLimitConfig",
    "WindowConfig",
    "current_limits",
    "find_function",
    "guard",
    "register_function",
    "retry",
    "retry_on_connection_error",
    "retry_on_timeout",
    "with_circuit_breaker",
    "with_fallback",
]
