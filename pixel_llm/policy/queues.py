"""Rules across the settings of the `rate_limit` and `bulkhead` sections."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import Problem
from pixel_llm.policy.breaker_meaning import Broken
from pixel_llm.policy.nodes import Node, Path, format_path
from pixel_llm.policy.sections.target import TargetPolicy


def check_queues(name: str, target: TargetPolicy, document: Node) -> Iterator[Problem]:
    """What the queueing layers of *target* ask for that can't be."""
    path = ("targets", name)
    for where, message, rule in broken_queues(target):
        yield _problem(document, (*path, *where), message, rule)
    adaptive = target.bulkhead.adaptive if target.bulkhead is not None else None
    initial = (*path, "bulkhead", "adaptive", "initial_limit")
    # The default of initial_limit gives way by itself.
    if adaptive is not None and adaptive.initial_limit < adaptive.min_limit and _stands(document, initial):
        message = f"must be at least min_limit, {adaptive.min_limit} (got {adaptive.initial_limit})"
        yield _problem(document, initial, message, "PL024")


def broken_queues(target: TargetPolicy) -> Iterator[Broken]:
    """The rules that the queueing layers of *target* break, whether it stands in a policy or was made in code."""
    limit, bulkhead = target.rate_limit, target.bulkhead
    if limit is not None and limit.max_calls is None and limit.tokens is None:
        yield ("rate_limit",), "limits nothing: give it max_calls, tokens or both", "PL022"
    adaptive = bulkhead.adaptive if bulkhead is not None else None
    if bulkhead is not None and adaptive is not None and adaptive.min_limit > bulkhead.max_concurrent:
        message = f"must be at most max_concurrent, {bulkhead.max_concurrent} (got {adaptive.min_limit})"
        yield ("bulkhead", "adaptive", "min_limit"), message, "PL023"


def _problem(document: Node, path: Path, message: str, rule: str) -> Problem:
    return Problem(document.find(path).place, format_path(path), message, rule)


def _stands(document: Node, path: Path) -> bool:
    return document.find(path) is not document.find(path[:-1])
