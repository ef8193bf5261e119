"""What a stack says of its layers: their names and settings, for tests, for `explain` and for the documentation."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from pixel_llm.policy import FallbackStep, TargetPolicy
from pixel_llm.policy.sections.matching import SERVED_BY_DEFAULT, ErrorMatcher

#: The sections below the fallback, outermost first.
_SECTIONS = ("cache", "retry", "hedge", "circuit_breaker", "rate_limit", "bulkhead", "timeout", "chaos")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a stack: its name, and its settings as the model has them: durations in seconds, errors by name."""

    name: str
    settings: dict[str, Any]


def describe(policy: TargetPolicy) -> tuple[Layer, ...]:
    """The layers that *policy* compiles to, outermost first, the call itself last."""
    layers: list[Layer] = []
    if policy.deadline is not None:
        layers.append(Layer("deadline", {"deadline": policy.deadline}))
    if policy.fallback is not None:
        layers.append(Layer("fallback", {"steps": [_describe_step(step) for step in policy.fallback]}))
    for name in _SECTIONS:
        section = getattr(policy, name)
        if section is not None and (name != "retry" or section.does_something):
            layers.append(Layer(name, _settings(section)))
    return (*layers, Layer("call", {}))


def _settings(section: Any) -> dict[str, Any]:
    return {field.name: _plain(getattr(section, field.name)) for field in fields(section)}


def _plain(value: Any) -> Any:
    """A setting's value in plain types: errors by name, a section within the section as a map."""
    if isinstance(value, ErrorMatcher):
        return value.names()
    return _settings(value) if is_dataclass(value) else value


def _describe_step(step: FallbackStep) -> dict[str, Any]:
    settings: dict[str, Any] = {"strategy": step.strategy.value}
    if step.cache is not None:
        settings |= _settings(step.cache)
    elif step.takes_time:
        settings[step.strategy.value] = step.value
    elif step.value is not None:
        settings["value"] = step.value
    if step.reserve is not None:
        settings["reserve"] = step.reserve
    if step.when != SERVED_BY_DEFAULT:
        settings["when"] = step.when.names()
    return settings
