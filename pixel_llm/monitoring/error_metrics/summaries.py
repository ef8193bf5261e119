"""What error metrics answer. All of it is immutable; durations are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pixel_llm.resilience import CircuitState


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSummary:
    """Calls that failed: in all, by type of the exception, by error code (``unknown`` without one), by target."""

    total: int
    by_type: Mapping[str, int]
    by_code: Mapping[str, int]
    by_target: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySummary:
    """
    How often calls were tried again, and what came of it.

    Attributes:
        total: Retries.
        recovered: Calls that succeeded after more than one attempt.
        exhausted: Calls that failed after more than one attempt.
        total_delay_seconds: What was waited before retries.
        by_target: Retries by target.
    """

    total: int
    recovered: int
    exhausted: int
    total_delay_seconds: float
    by_target: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreakerSummary:
    """
    What one breaker has done.

    Attributes:
        name: The breaker: its target, with its key in brackets where the target has one for each.
        current_state: The state that it was in last.
        transitions: Changes of its state.
        total_open_seconds: How long it was open, until now if it still is.
        opens: How often it opened.
        closes: How often it closed.
        half_opens: How often it tried.
    """

    name: str
    current_state: CircuitState
    transitions: int
    total_open_seconds: float
    opens: int
    closes: int
    half_opens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackSummary:
    """
    What served in place of calls.

    Attributes:
        total: Calls that a step served.
        by_step: The same by step.
        cache_hits: Calls that the cache served.
        cache_misses: Calls that were looked for in it in vain.
        cache_hit_rate: The share of hits, 0 to 1; 0 if nothing was looked for.
    """

    total: int
    by_step: Mapping[str, int]
    cache_hits: int
    cache_misses: int
    cache_hit_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyStats:
    """
    How long calls took. All but *count* are None if there were none.

    Of latencies that were recorded one by one, *min*, *max* and *avg* are exact, and quantiles off by 1/32 at most. Of
    those that watched stacks have counted only buckets are known, each twice as long as the one before: *min* and *max*
    are the bounds of the outermost buckets, *avg* is off by a third at most, quantiles by a factor of two at most.
    """

    count: int
    min: float | None = None
    max: float | None = None
    avg: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FullSummary:
    """
    Everything, of one moment.

    Attributes:
        since: Since when is counted, in seconds since 1970.
        successes: Calls that succeeded.
        errors: Calls that failed.
        success_rate: The share of successes in the last minute, 0 to 1.
        error_rate: The share of errors in the last minute.
        retries: See there.
        circuit_breakers: By name; those that never changed are not there.
        fallbacks: See there.
        latency: See there.
    """

    since: float
    successes: int
    errors: ErrorSummary
    success_rate: float
    error_rate: float
    retries: RetrySummary
    circuit_breakers: Mapping[str, CircuitBreakerSummary]
    fallbacks: FallbackSummary
    latency: LatencyStats
