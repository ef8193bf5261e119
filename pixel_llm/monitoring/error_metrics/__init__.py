"""Errors, successes, retries, breakers, fallbacks and latencies, summed up for a program that asks."""

from pixel_llm.monitoring.error_metrics.error_metrics import ErrorMetrics, get_metrics
from pixel_llm.monitoring.error_metrics.points import MetricPoint, MetricType
from pixel_llm.monitoring.error_metrics.rolling_counter import RollingCounter
from pixel_llm.monitoring.error_metrics.summaries import (
    CircuitBreakerSummary,
    ErrorSummary,
    FallbackSummary,
    FullSummary,
    LatencyStats,
    RetrySummary,
)

__all__ = [
    "CircuitBreakerSummary",
    "ErrorMetrics",
    "ErrorSummary",
    "FallbackSummary",
    "FullSummary",
    "LatencyStats",
    "MetricPoint",
    "MetricType",
    "RetrySummary",
    "RollingCounter",
    "get_metrics",
]
