"""Configs in, guarded callables out. The only room with tenacity and pybreaker, each in one module."""

from pixel_llm.policy import (
    BreakerMode,
    CacheConfig,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    Jitter,
    RetryBudgetConfig,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
    WindowConfig,
)
from pixel_llm.resilience.breaker import CircuitBreaker, CircuitState
from pixel_llm.resilience.cache import CachedResult, ResultCache
from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock, SystemClock
from pixel_llm.resilience.counters import Histogram, StackStats
from pixel_llm.resilience.guard import Guarded, guard
from pixel_llm.resilience.keyed_breakers import KeyedBreakers
from pixel_llm.resilience.limits import Limits, current_limits
from pixel_llm.resilience.outcome import Outcome, SkippedStep
from pixel_llm.resilience.registry import find_function, register_function
from pixel_llm.resilience.stack import Layer, Stack

__all__ = [
    "SYSTEM_CLOCK",
    "BreakerMode",
    "CacheConfig",
    "CachedResult",
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitState",
    "Clock",
    "FallbackStep",
    "FallbackStrategy",
    "Guarded",
    "Histogram",
    "Jitter",
    "KeyedBreakers",
    "Layer",
    "Limits",
    "Outcome",
    "ResultCache",
    "RetryBudgetConfig",
    "RetryConfig",
    "RetryStrategy",
    "SkippedStep",
    "Stack",
    "StackStats",
    "SystemClock",
    "TargetPolicy",
    "TimeoutConfig",
    "WindowConfig",
    "current_limits",
    "find_function",
    "guard",
    "register_function",
]
