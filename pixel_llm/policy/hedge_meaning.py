"""What a `hedge` section must mean."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import Problem
from pixel_llm.policy.breaker_meaning import Broken
from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.nodes import Node, format_path
from pixel_llm.policy.sections.hedge import ONLY_WITH_QUANTILE, HedgeConfig
from pixel_llm.policy.sections.target import TargetPolicy, is_system_name


def check_hedge(name: str, target: TargetPolicy, document: Node) -> Iterator[Problem]:
    """The rules that the hedge of the target *name* breaks."""
    hedge = target.hedge
    if hedge is None:
        return
    path = ("targets", name, "hedge")
    section = document.find(path)
    for where, message, rule in broken_hedge(hedge):
        # Whoever says only one of the two delays hears of that one.
        key = "min_delay" if where and where[0] not in section.value else "".join(where)
        at = (*path, key) if key else path
        yield Problem(document.find(at).place, format_path(at), message, rule)
    if hedge.delay is not None and hedge.quantile is None:
        for key in ONLY_WITH_QUANTILE:
            if key in section.value:
                place = section.place_of_key(key)
                yield Problem(place, format_path((*path, key)), "belongs to `quantile`, not to `delay`", "PL030")
    if target.idempotent is not True and not (target.idempotent is None and is_system_name(name)):
        message = "makes the call twice: say `idempotent: true` if that does no harm, else leave the hedge out"
        yield Problem(section.place, format_path(path), message, "PL031")


def broken_hedge(hedge: HedgeConfig) -> Iterator[Broken]:
    """The rules that *hedge* breaks by itself, whether it stands in a policy or was made in code."""
    if (hedge.delay is None) == (hedge.quantile is None):
        yield (), "must have either `delay` or `quantile`", "PL030"
    elif hedge.delay is None and hedge.min_delay > hedge.max_delay:
        first, last = format_duration(hedge.min_delay), format_duration(hedge.max_delay)
        yield ("max_delay",), f"max_delay must be at least min_delay, {first} (got {last})", "PL030"
