"""Rules across the settings of the `rate_limit` and `bulkhead` sections."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import Problem
from pixel_llm.policy.nodes import Node, Path, format_path
from pixel_llm.policy.sections.target import TargetPolicy


def check_queues(name: str, target: TargetPolicy, document: Node) -> Iterator[Problem]:
    """What the queueing layers of *target* ask for that can't be."""
    path = ("targets", name)
    limit, bulkhead = target.rate_limit, target.bulkhead
    if limit is not None and limit.max_calls is None and limit.tokens is None:
        yield _problem(document, (*path, "rate_limit"), "limits nothing: give it max_calls, tokens or both", "PL022")
    if bulkhead is None or bulkhead.adaptive is None:
        return
    adaptive = bulkhead.adaptive
    if adaptive.min_limit > bulkhead.max_concurrent:
        message = f"must be at most max_concurrent, {bulkhead.max_concurrent} (got {adaptive.min_limit})"
        yield _problem(document, (*path, "bulkhead", "adaptive", "min_limit"), message, "PL023")
    initial = (*path, "bulkhead", "adaptive", "initial_limit")
    # The default of initial_limit gives way by itself.
    if adaptive.initial_limit < adaptive.min_limit and _stands(document, initial):
        message = f"must be at least min_limit, {adaptive.min_limit} (got {adaptive.initial_limit})"
        yield _problem(document, initial, message, "PL024")


def _problem(document: Node, path: Path, message: str, rule: str) -> Problem:
    return Problem(_deepest(document, path).place, format_path(path), message, rule)


def _stands(document: Node, path: Path) -> bool:
    return _deepest(document, path) is not _deepest(document, path[:-1])


def _deepest(node: Node, path: Path) -> Node:
    """What stands at *path*, or as far on the way there as something is written: the rest is a default."""
    for part in path:
        if not isinstance(node.value, dict) or part not in node.value:
            break
        node = node.value[part]
    return node
