"""
Single layers for a function, without a policy file: the stacks that policies compile to, made in code.

Sync and async functions alike. Where several layers are wanted, a target of a policy puts them in the right order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

from pixel_llm.errors import ErrorCode, ErrorFamily, ValidationError
from pixel_llm.events import Listener
from pixel_llm.policy import CircuitBreakerConfig, FallbackStep, RetryConfig, TargetPolicy
from pixel_llm.policy.sections.matching import NEVER_RETRIED, ErrorMatcher
from pixel_llm.resilience.breaker.circuit_breaker import CircuitBreaker
from pixel_llm.resilience.checked import checked, checked_steps
from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock
from pixel_llm.resilience.roads.guard import Guarded, guard
from pixel_llm.resilience.stack import Stack

P = ParamSpec("P")
R = TypeVar("R")


@overload
def retry(function: Callable[P, R], /) -> Guarded[P, R]: ...
@overload
def retry(
    config: RetryConfig | None = None, /, *, clock: Clock = ..., listener: Listener | None = ..., **settings: Any
) -> Callable[[Callable[P, R]], Guarded[P, R]]: ...
def retry(
    config: Any = None, /, *, clock: Clock = SYSTEM_CLOCK, listener: Listener | None = None, **settings: Any
) -> Any:
    """
    Try a function again when it fails of something that may go away; a decorator.

    ``@retry``, ``@retry(max_attempts=5)`` and ``@retry(config)`` all work. The function must be safe to call twice.

    Args:
        config: How, else :class:`RetryConfig`'s defaults.
        clock: Where time comes from.
        listener: Takes the events.
        settings: Those of :class:`RetryConfig`, in place of *config*; durations are float seconds.

    Raises:
        ValidationError: If both *config* and *settings* are given, or a setting is none.
    """
    if callable(config):
        return retry()(config)
    policy = TargetPolicy(retry=checked(RetryConfig, config, settings), idempotent=True)
    return _decorator(policy, clock, listener)


def retry_on_connection_error(
    *, clock: Clock = SYSTEM_CLOCK, **settings: Any
) -> Callable[[Callable[P, R]], Guarded[P, R]]:
    """:func:`retry` for connections that can't be made or break, and for nothing else."""
    return retry(clock=clock, retry_on=_family(ErrorFamily.CONNECTION), **settings)


def retry_on_timeout(*, clock: Clock = SYSTEM_CLOCK, **settings: Any) -> Callable[[Callable[P, R]], Guarded[P, R]]:
    """:func:`retry` for attempts that took too long, and for nothing else."""
    return retry(clock=clock, retry_on=_family(ErrorFamily.TIMEOUT), **settings)


def with_circuit_breaker(
    breaker: CircuitBreaker | CircuitBreakerConfig | None = None,
    /,
    *,
    clock: Clock = SYSTEM_CLOCK,
    listener: Listener | None = None,
    **settings: Any,
) -> Callable[[Callable[P, R]], Guarded[P, R]]:
    """
    Refuse calls of a function that keeps failing; a decorator.

    Args:
        breaker: The breaker itself, which several functions may share, or how to make one for each function.
        clock: Where time comes from.
        listener: Takes the events.
        settings: Those of :class:`CircuitBreakerConfig`, in place of *breaker*; durations are float seconds.
    """
    if not isinstance(breaker, CircuitBreaker):
        config = checked(CircuitBreakerConfig, breaker, settings)
        return _decorator(TargetPolicy(circuit_breaker=config), clock, listener)
    if settings:
        raise ValidationError("with_circuit_breaker takes a breaker or settings, not both")
    shared = breaker

    def decorate(function: Callable[P, R]) -> Guarded[P, R]:
        policy = TargetPolicy(circuit_breaker=shared.config)
        return guard(Stack(_name(function), policy, clock=clock, emit=listener, breaker=shared), function)

    return decorate


def with_fallback(
    *steps: FallbackStep,
    key: Callable[..., Any] | None = None,
    clock: Clock = SYSTEM_CLOCK,
    listener: Listener | None = None,
) -> Callable[[Callable[P, R]], Guarded[P, R]]:
    """
    Serve something else when a function fails; a decorator.

    Args:
        steps: What serves, tried in order.
        key: Names a call in the cache, from its arguments; needed if a step is one.
        clock: Where time comes from.
        listener: Takes the events.
    """
    return _decorator(TargetPolicy(fallback=checked_steps(steps)), clock, listener, key)


def _decorator(
    policy: TargetPolicy, clock: Clock, listener: Listener | None, key: Callable[..., Any] | None = None
) -> Callable[[Callable[P, R]], Guarded[P, R]]:
    def decorate(function: Callable[P, R]) -> Guarded[P, R]:
        return guard(Stack(_name(function), policy, clock=clock, emit=listener), function, key=key)

    return decorate


def _family(family: ErrorFamily) -> ErrorMatcher:
    return ErrorMatcher.of(*(code for code in ErrorCode if code.info.family is family and code not in NEVER_RETRIED))


def _name(function: Any) -> str:
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
