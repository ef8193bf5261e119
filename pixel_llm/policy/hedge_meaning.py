"""What a `hedge` section must mean."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import Problem
from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.nodes import Node, format_path
from pixel_llm.policy.sections.hedge import ONLY_WITH_QUANTILE
from pixel_llm.policy.sections.target import TargetPolicy, is_system_name


def check_hedge(name: str, target: TargetPolicy, document: Node) -> Iterator[Problem]:
    """The rules that the hedge of the target *name* breaks."""
    hedge = target.hedge
    if hedge is None:
        return
    path = ("targets", name, "hedge")
    section = document.find(path)
    if (hedge.delay is None) == (hedge.quantile is None):
        yield Problem(section.place, format_path(path), "must have either `delay` or `quantile`", "PL030")
    elif hedge.delay is not None:
        for key in ONLY_WITH_QUANTILE:
            if key in section.value:
                place = section.place_of_key(key)
                yield Problem(place, format_path((*path, key)), "belongs to `quantile`, not to `delay`", "PL030")
    elif hedge.min_delay > hedge.max_delay:
        key = "max_delay" if "max_delay" in section.value else "min_delay"
        first, last = format_duration(hedge.min_delay), format_duration(hedge.max_delay)
        message = f"max_delay must be at least min_delay, {first} (got {last})"
        yield Problem(document.find((*path, key)).place, format_path((*path, key)), message, "PL030")
    if target.idempotent is not True and not (target.idempotent is None and is_system_name(name)):
        message = "makes the call twice: say `idempotent: true` if that does no harm, else leave the hedge out"
        yield Problem(section.place, format_path(path), message, "PL031")
