"""Fallbacks that name another target: it must be there, and must not lead back."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import Problem
from pixel_llm.policy.nodes import Node, format_path
from pixel_llm.policy.sections.document import PolicyConfig
from pixel_llm.policy.sections.fallback import FallbackStrategy
from pixel_llm.policy.sections.target import (
    SYSTEM_TARGETS,
    TargetPolicy,
    is_pattern,
    is_system_name,
    patterns_for,
)
from pixel_llm.policy.suggestions import one_of, suggestion


def find_target(policy: PolicyConfig, name: str) -> TargetPolicy | None:
    """The layers of the target *name*, which a pattern may give; None if the policy does not know it."""
    known = policy.targets.get(name)
    if known is not None:
        return known
    if name in SYSTEM_TARGETS:
        return TargetPolicy()
    patterns = [] if is_system_name(name) else patterns_for(name, policy.targets)
    return policy.targets[patterns[-1]] if patterns else None


def check_fallback_targets(policy: PolicyConfig, document: Node) -> Iterator[Problem]:
    """Every step of a fallback that names a target which is not there, or leads back to where it stands."""
    for name, target in policy.targets.items():
        for index, step in enumerate(target.fallback or ()):
            if step.strategy is not FallbackStrategy.TARGET:
                continue
            path = ("targets", name, "fallback", index, "target")
            place = document.find(path).place
            if find_target(policy, step.value) is None:
                known = sorted(
                    {*SYSTEM_TARGETS, *(other for other in policy.targets if not is_pattern(other))} - {name}
                )
                hint = suggestion(step.value, known) or f"; there are {one_of(known)}"
                yield Problem(place, format_path(path), f"there is no target {step.value!r}{hint}", "PL026")
            elif circle := _circle(policy, name, step.value):
                way = " → ".join(circle)
                yield Problem(place, format_path(path), f"the fallbacks go round in a circle: {way}", "PL027")


def _circle(policy: PolicyConfig, start: str, first: str) -> list[str]:
    """The way from *start* by its fallback *first* back to *start*; empty if there is none."""
    # A pattern stands for every name below it, so for this one too, if nothing more specific does.
    aims = {start}
    if is_pattern(start) and find_target(policy, first) is policy.targets[start]:
        aims.add(first)
    pending, seen = [[start, first]], set[str]()
    while pending:
        way = pending.pop()
        if way[-1] in aims:
            return way
        if way[-1] in seen:
            continue
        seen.add(way[-1])
        steps = getattr(find_target(policy, way[-1]), "fallback", None) or ()
        pending += [[*way, step.value] for step in steps if step.strategy is FallbackStrategy.TARGET]
    return []
