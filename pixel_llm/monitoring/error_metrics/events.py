"""From a stack's events to what error metrics record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pixel_llm.errors import ErrorCode, ErrorFamily
from pixel_llm.events import (
    CallFailed,
    CallRecovered,
    CircuitStateChanged,
    Event,
    FallbackServed,
    FallbackSkipped,
    RetryScheduled,
)
from pixel_llm.monitoring.health import is_place

if TYPE_CHECKING:
    from collections.abc import Callable

    from pixel_llm.monitoring.error_metrics.error_metrics import ErrorMetrics


def record_event(metrics: ErrorMetrics, event: Event) -> None:
    """Record *event*, if it is one that counts. What a place of a target tells, the target tells as well."""
    record = _RECORDERS.get(type(event))
    if record is None:
        return
    if is_place(event.target) and not isinstance(event, CircuitStateChanged):
        return
    record(metrics, event)


def _failed(metrics: ErrorMetrics, event: CallFailed) -> None:
    kind = _type_of(event.error, event.error_code)
    metrics.record_error(kind, error_code=event.error_code, target=event.target, attempts=event.attempts)


def _recovered(metrics: ErrorMetrics, event: CallRecovered) -> None:
    metrics.record_recovery()


def _retry(metrics: ErrorMetrics, event: RetryScheduled) -> None:
    metrics.record_retry(delay=event.delay, target=event.target)


def _changed(metrics: ErrorMetrics, event: CircuitStateChanged) -> None:
    if not event.shadow:
        name = event.target if event.breaker is None else f"{event.target}[{event.breaker}]"
        metrics.record_circuit_state_change(name, event.new_state, event.old_state)


def _served(metrics: ErrorMetrics, event: FallbackServed) -> None:
    metrics.record_fallback_activation(event.served_by, target=event.target)


def _skipped(metrics: ErrorMetrics, event: FallbackSkipped) -> None:
    metrics.record_fallback_activation(event.step, target=event.target, served=False)


_RECORDERS: dict[type[Event], Callable[[ErrorMetrics, Any], None]] = {
    CallFailed: _failed,
    CallRecovered: _recovered,
    CircuitStateChanged: _changed,
    FallbackServed: _served,
    FallbackSkipped: _skipped,
    RetryScheduled: _retry,
}

#: What the errors of each family are called.
_TYPES = {
    ErrorFamily.API: "APIError",
    ErrorFamily.CIRCUIT_BREAKER: "CircuitBreakerOpen",
    ErrorFamily.CONNECTION: "ConnectionError",
    ErrorFamily.ENCODER: "EncoderError",
    ErrorFamily.LIMIT: "LimitExceeded",
    ErrorFamily.RETRY: "RetryExhausted",
    ErrorFamily.TIMEOUT: "TimeoutError",
    ErrorFamily.VALIDATION: "ValidationError",
}


def _type_of(text: str, code: ErrorCode | None) -> str:
    """The type of the error: texts of other people's begin with it, ours have a code."""
    name = text.partition(":")[0]
    if name.isidentifier() and (code is None or name.endswith(("Error", "Exception", "Timeout"))):
        return name
    return "Exception" if code is None else _TYPES[code.info.family]
