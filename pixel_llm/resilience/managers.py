"""Retries and fallbacks of many calls in one hand, with statistics, without a policy file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, ParamSpec, TypeVar

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.events import CallFailed, Event, RetryScheduled
from pixel_llm.policy import FallbackStep, RetryConfig, TargetPolicy
from pixel_llm.resilience.caching.cache import CachedResult, ResultCache
from pixel_llm.resilience.checked import checked, checked_steps
from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock
from pixel_llm.resilience.fallbacks.chain import HOLDS_NOTHING
from pixel_llm.resilience.registry import finder
from pixel_llm.resilience.retrying.retry import Retry, RetryState
from pixel_llm.resilience.roads.guard import Guarded, guard
from pixel_llm.resilience.stack import Stack

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RetryStats:
    """
    What retries have done so far. Immutable.

    Attributes:
        total_attempts: Attempts of all calls, first ones included.
        successful_retries: Calls that succeeded after a failed attempt.
        failed_retries: Calls that were tried again and failed all the same.
        total_delay_seconds: Seconds of all waits between attempts.
    """

    total_attempts: int
    successful_retries: int
    failed_retries: int
    total_delay_seconds: float


class RetryManager:
    """
    Retries calls, sync and async, and keeps statistics of all of them. Safe for concurrent use.

    Args:
        config: How, else :class:`RetryConfig`'s defaults. What is called must be safe to call twice.
        name: What errors and events call it.
        clock: Where time comes from.
    """

    def __init__(
        self, config: RetryConfig | None = None, *, name: str = "retry_manager", clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.config = checked(RetryConfig, config)
        self._clock = clock
        self._stack = Stack(name, TargetPolicy(retry=self.config), clock=clock, emit=self._take_note)
        self._lock = threading.Lock()
        self._failed = 0
        self._delay = 0.0

    def wrap(self, function: Callable[P, R]) -> Guarded[P, R]:
        """Have every call of *function* retried; also a decorator."""
        return guard(self._stack, function)

    def execute(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *function*, again if need be; what an async one gives is to be awaited."""
        return self.wrap(function)(*args, **kwargs)

    def begin(self, deadline: float | None = None) -> RetryState:
        """
        The sequence of one call that the program makes by itself, to be asked after each failure.

        Args:
            deadline: The moment on the manager's clock that no wait may outlive, in seconds.
        """
        return Retry(self.config).begin(self._clock, inf if deadline is None else deadline)

    def stats(self) -> RetryStats:
        """What has happened so far."""
        counters = self._stack.counters
        with self._lock:
            failed, delay = self._failed, self._delay
        attempts = counters.successes() + counters.happened("attempt_failed")
        return RetryStats(attempts, counters.happened("call_recovered"), failed, delay)

    def _take_note(self, event: Event) -> None:
        if isinstance(event, RetryScheduled):
            with self._lock:
                self._delay += event.delay
        elif isinstance(event, CallFailed) and event.attempts > 1:
            with self._lock:
                self._failed += 1


@dataclass(frozen=True, slots=True)
class FallbackConfig:
    """The steps of a fallback, tried in order until one serves; a policy's `fallback` section. Immutable."""

    steps: tuple[FallbackStep, ...]


@dataclass(frozen=True, slots=True)
class FallbackStats:
    """
    What a fallback has done so far. Immutable.

    Attributes:
        calls: Calls that have ended.
        failures: Those of them that failed, so that the fallback was asked.
        served: How often each step served, by its name.
        cache_hits: How often the cache held a fresh result when it was asked.
        cache_misses: How often it did not.
    """

    calls: int
    failures: int
    served: Mapping[str, int]
    cache_hits: int
    cache_misses: int

    @property
    def cache_hit_rate(self) -> float:
        """The share of questions to the cache that it could answer, 0 to 1; 0 if there were none."""
        asked = self.cache_hits + self.cache_misses
        return self.cache_hits / asked if asked else 0.0


class FallbackManager:
    """
    Serves something else for calls that fail, sync and async, and keeps statistics. Safe for concurrent use.

    Args:
        config: The steps.
        name: What errors and events call it.
        functions: The functions that CUSTOM_FUNCTION steps name, laid over the registered ones.
        clock: Where time comes from.
    """

    def __init__(
        self,
        config: FallbackConfig,
        *,
        name: str = "fallback_manager",
        functions: Mapping[str, Callable[..., Any]] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not isinstance(config, FallbackConfig):
            raise ValidationError(f"must be a FallbackConfig (got {config!r})")
        self.config = config
        self._stack = Stack(
            name,
            TargetPolicy(fallback=checked_steps(config.steps)),
            clock=clock,
            emit=self._take_note,
            find_function=finder(functions),
        )
        self._lock = threading.Lock()
        self._served: dict[str, int] = {}
        self._misses = 0

    def execute_with_fallback(self, function: Callable[..., R], *args: Any, cache_key: Any = None, **kwargs: Any) -> R:
        """
        Call *function*; what an async one gives is to be awaited.

        Args:
            function: What is called.
            args: Its positional arguments.
            cache_key: Names the call in the cache. Without one the cache has nothing to do with it.
            kwargs: Its other arguments.
        """
        key = cache_key if cache_key is not None else _Nobody()
        return guard(
            self._stack, function, key=lambda *args, **kwargs: key, cacheable=lambda value: cache_key is not None
        )(*args, **kwargs)

    def cache_result(self, key: Any, value: Any) -> None:
        """
        Keep *value* under *key*, which must be hashable.

        Raises:
            ValidationError: If no step is a cache.
        """
        self._cache().store(key, value)

    def get_cached(self, key: Any) -> CachedResult | None:
        """
        The fresh result under *key*, or None.

        Raises:
            ValidationError: If no step is a cache.
        """
        return self._cache().get(key)

    def get_stats(self) -> FallbackStats:
        """What has happened so far."""
        stats = self._stack.stats()
        with self._lock:
            served, misses = dict(self._served), self._misses
        return FallbackStats(stats.succeeded + stats.failed, stats.failed, served, served.get("cache", 0), misses)

    def _cache(self) -> ResultCache:
        fallback = self._stack.fallback
        assert fallback is not None  # noqa: S101 - a manager has steps
        if (cache := fallback.cache) is None:
            raise ValidationError(
                f"{self._stack.target}: none of its steps is a cache", error_code=ErrorCode.ERR_VAL_MISSING_FIELD
            )
        return cache

    def _take_note(self, event: Event) -> None:
        match event.name:
            case "fallback_served":
                with self._lock:
                    name = event.served_by  # type: ignore[attr-defined]
                    self._served[name] = self._served.get(name, 0) + 1
            case "fallback_skipped" if event.reason == HOLDS_NOTHING:  # type: ignore[attr-defined]
                with self._lock:
                    self._misses += 1


class _Nobody:
    """A key that no other call has."""
