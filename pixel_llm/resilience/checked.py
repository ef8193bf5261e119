"""Configs that a program has made in code, held to what the policy language says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pixel_llm.errors import ValidationError
from pixel_llm.policy import FallbackStep, FallbackStrategy
from pixel_llm.policy.settings import Section

C = TypeVar("C")


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
    return tuple(steps)
