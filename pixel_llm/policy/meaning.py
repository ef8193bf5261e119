"""What a schema cannot say: rules across the fields of a policy."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import Problem
from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.nodes import Node, format_path
from pixel_llm.policy.sections.document import PolicyConfig
from pixel_llm.policy.sections.target import SYSTEM_TARGETS, TargetPolicy, is_pattern, is_system_name
from pixel_llm.policy.suggestions import one_of, suggestion


def check_meaning(policy: PolicyConfig, document: Node) -> list[Problem]:
    """Every rule that *policy*, frozen from *document*, breaks."""
    return [
        problem
        for name, target in policy.targets.items()
        for rule in (_known_target, _says_idempotent, _delays_in_order, _one_cache)
        for problem in rule(name, target, document)
    ]


def unknown_system_target(name: str) -> str:
    """The message for a name under the system's prefixes that the system does not have."""
    hint = suggestion(name, SYSTEM_TARGETS) or f"; there are {one_of(SYSTEM_TARGETS)}"
    return f"the system has no target {name!r}{hint}"


def _known_target(name: str, target: TargetPolicy, document: Node) -> Iterator[Problem]:
    covers_one = is_pattern(name) and any(target_name.startswith(name[:-1]) for target_name in SYSTEM_TARGETS)
    if is_system_name(name) and name not in SYSTEM_TARGETS and not covers_one:
        place = document.find(["targets"]).place_of_key(name)
        yield Problem(place, format_path(("targets", name)), unknown_system_target(name), "PL010")


def _says_idempotent(name: str, target: TargetPolicy, document: Node) -> Iterator[Problem]:
    if target.retry is not None and target.idempotent is None and not is_system_name(name):
        place = document.find(["targets", name]).place_of_key("retry")
        message = (
            "a target of your own that retries must say `idempotent: true` (calling twice does no harm) "
            "or `idempotent: false` (retry only what was never sent)"
        )
        yield Problem(place, format_path(("targets", name)), message, "PL011")


def _delays_in_order(name: str, target: TargetPolicy, document: Node) -> Iterator[Problem]:
    retry = target.retry
    if retry is not None and retry.initial_delay > retry.max_delay:
        path = ("targets", name, "retry", "max_delay")
        first, cap = format_duration(retry.initial_delay), format_duration(retry.max_delay)
        message = f"must be at least initial_delay, {first} (got {cap})"
        yield Problem(document.find(path).place, format_path(path), message, "PL012")


def _one_cache(name: str, target: TargetPolicy, document: Node) -> Iterator[Problem]:
    caches = [index for index, step in enumerate(target.fallback or ()) if step.cache is not None]
    for index in caches[1:]:
        path = ("targets", name, "fallback", index)
        yield Problem(
            document.find(path).place, format_path(path), "a chain has one cache; this is a second one", "PL013"
        )
