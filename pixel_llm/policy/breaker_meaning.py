"""What a schema cannot say of a circuit breaker: rules across its settings."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import Problem
from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.nodes import Node, Path, format_path
from pixel_llm.policy.sections.circuit_breaker import PER_TARGET, CircuitBreakerConfig
from pixel_llm.policy.sections.target import SYSTEM_TARGETS, TargetPolicy
from pixel_llm.policy.suggestions import one_of

#: A rule that a section breaks: the path of the setting, the message, the rule's id.
Broken = tuple[tuple[str, ...], str, str]

#: What the system's own targets know of a call that a breaker may be kept for.
_KEYS = {"lm_studio.chat": ("model", "endpoint"), "lm_studio.models": ("endpoint",)}


def check_breaker(name: str, target: TargetPolicy, document: Node) -> Iterator[Problem]:
    """The rules that the breaker of target *name* breaks."""
    breaker = target.circuit_breaker
    if breaker is None:
        return
    for where, message, rule in (*_unknown_key(name, breaker), *broken_breaker(breaker)):
        path: Path = ("targets", name, "circuit_breaker", *where)
        yield Problem(document.find(path).place, format_path(path), message, rule)


def _unknown_key(name: str, breaker: CircuitBreakerConfig) -> Iterator[Broken]:
    keys = (PER_TARGET, *_KEYS.get(name, ()))
    if name in SYSTEM_TARGETS and breaker.per not in keys:
        yield ("per",), f"must be {one_of(keys)} for {name} (got {breaker.per!r})", "PL037"


def broken_breaker(breaker: CircuitBreakerConfig) -> Iterator[Broken]:
    """The rules that *breaker* breaks by itself, each with the path of the setting within it and the message."""
    window = breaker.window
    if window is not None and window.calls is not None and window.period is not None:
        message = (
            "has calls and period, but is either so many calls or so much time: remove one, with null if inherited"
        )
        yield ("window",), message, "PL018"
    elif (
        breaker.has_rate and breaker.measured_over.period is None and breaker.minimum_calls > breaker.measured_over.size
    ):
        message = (
            f"must be at most the window's calls, {breaker.measured_over.size} (got {breaker.minimum_calls}): "
            "the window never holds more, so that no rate would open the breaker"
        )
        yield ("minimum_calls",), message, "PL019"
    if (breaker.slow_call_rate is None) != (breaker.slow_call_duration is None):
        given, missing = "slow_call_rate", "slow_call_duration"
        if breaker.slow_call_rate is None:
            given, missing = missing, given
        yield (given,), f"needs {missing} beside it", "PL020"
    if breaker.max_cooldown is not None and breaker.max_cooldown < breaker.cooldown:
        first, cap = format_duration(breaker.cooldown), format_duration(breaker.max_cooldown)
        yield ("max_cooldown",), f"must be at least cooldown, {first} (got {cap})", "PL021"
