"""A circuit breaker whose changes are events of its target."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from pixel_llm.errors import ErrorCode
from pixel_llm.events import CallWouldBeRefused, CircuitStateChanged
from pixel_llm.policy import BreakerMode, CircuitBreakerConfig
from pixel_llm.resilience.breaker.circuit_breaker import CircuitBreaker
from pixel_llm.resilience.breaker.state import CircuitState
from pixel_llm.resilience.breaker.words import breaker_label
from pixel_llm.resilience.clock import Clock


def reporting_breaker(
    target: str, config: CircuitBreakerConfig, *, clock: Clock, report: Callable[..., None], key: Hashable = None
) -> CircuitBreaker:
    """
    The breaker of *target*, or of one *key* of it, whose *config* has been checked.

    It tells *report* what happens: the event's type and fields.
    """
    label = None if key is None else breaker_label(key)
    is_shadow = config.mode is BreakerMode.SHADOW

    def changed(old: CircuitState, new: CircuitState, failures: int, code: ErrorCode | None) -> None:
        report(CircuitStateChanged, old.value, new.value, failures, code, is_shadow, label)

    def would_be_refused(code: ErrorCode, retry_after: float | None) -> None:
        report(CallWouldBeRefused, "circuit_breaker", code, retry_after, label)

    return CircuitBreaker(
        target,
        config,
        is_checked=True,
        key=key,
        clock=clock,
        on_change=changed,
        on_shadow_refusal=would_be_refused,
    )
