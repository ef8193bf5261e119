"""Configs that a program has made in code, held to what the policy language says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pixel_llm.errors import ValidationError
from pixel_llm.policy import CacheConfig, CircuitBreakerConfig, FallbackStep, FallbackStrategy, TargetPolicy
from pixel_llm.policy.breaker_meaning import broken_breaker
from pixel_llm.policy.kinds import Duration
from pixel_llm.policy.meaning import complain_of_target
from pixel_llm.policy.sections.matching import ERROR_NAMES
from pixel_llm.policy.settings import Section

C = TypeVar("C")

_POLICY, _BREAKER, _CACHE = Section(TargetPolicy), Section(CircuitBreakerConfig), Section(CacheConfig)
_RESERVE = Duration()


def checked(kind: type[C], config: Any, settings: Mapping[str, Any] | None = None) -> C:
    """
    *config*, or one of this *kind* made of *settings*.

    Policies are checked by their schema; this is for what never was in one, and is said before anything is called.

    Raises:
        ValidationError: If both are given, or something is wrong with them.
    """
    if config is not None and settings:
        raise ValidationError(f"give a {kind.__name__} or its settings, not both")
    try:
        made = kind(**(settings or {})) if config is None else config
    except (TypeError, ValueError) as error:
        raise ValidationError(f"{kind.__name__}: {error}") from error
    if complaint := Section(kind).complain(made):
        raise ValidationError(f"{kind.__name__}: {complaint}")
    return made


def checked_policy(target: str, policy: TargetPolicy) -> TargetPolicy:
    """
    The *policy* of the stack of *target*.

    Raises:
        ValidationError: If the name is none, or something is wrong with the policy, by itself or across its settings.
    """
    if not isinstance(target, str) or not target:
        raise ValidationError(f'a target is named by a text such as "billing.charge" (got {target!r})')
    complaint = _POLICY.complain(policy)
    if not complaint and policy.fallback is not None:
        checked_steps(policy.fallback)
    if complaint := complaint or complain_of_target(policy):
        raise ValidationError(f"TargetPolicy: {complaint}", target=target)
    return policy


def checked_breaker(name: str, config: CircuitBreakerConfig | None) -> CircuitBreakerConfig:
    """
    The *config* of the breaker that messages call *name*; the default one for None.

    Raises:
        ValidationError: If something is wrong with it, by itself or across its settings.
    """
    config = CircuitBreakerConfig() if config is None else config
    complaint = _BREAKER.complain(config)
    if not complaint:
        complaint = "; ".join(f"{'.'.join(where)} {message}" for where, message, _ in broken_breaker(config))
    if complaint:
        raise ValidationError(f"CircuitBreakerConfig: {complaint}", target=name)
    return config


def checked_steps(steps: Any) -> tuple[FallbackStep, ...]:
    """
    *steps* of a fallback.

    Raises:
        ValidationError: If there are none, or one is no step.
    """
    if not isinstance(steps, tuple | list) or not steps:
        raise ValidationError("a fallback needs at least one step, such as FallbackStep(FallbackStrategy.NONE)")
    for step in steps:
        if not isinstance(step, FallbackStep) or not isinstance(step.strategy, FallbackStrategy):
            raise ValidationError(f"a step of a fallback must be a FallbackStep (got {step!r})")
        if (step.strategy is FallbackStrategy.CACHE) is (step.cache is None):
            raise ValidationError("a step with the strategy CACHE, and no other, needs cache=CacheConfig(...)")
        for name, kind, value in (
            ("cache", _CACHE, step.cache),
            ("when", ERROR_NAMES, step.when),
            ("reserve", _RESERVE, step.reserve),
        ):
            if value is not None and (complaint := kind.complain(value)):
                raise ValidationError(f"FallbackStep: {name} {complaint}")
        if step.takes_time and not isinstance(step.value, str):
            raise ValidationError(f"a step {step.strategy.name} needs a name or an address (got {step.value!r})")
    return tuple(steps)
