"""Merging by RFC 7396 (JSON Merge Patch): maps merge, lists replace, null removes."""

from __future__ import annotations

from typing import Any

from pixel_llm.policy.nodes import Node


def merge(base: Node | None, patch: Node) -> Node:
    """
    Lay *patch* over *base*. Every value keeps the place it came from.

    The order of keys is that of *base*, new ones after it.
    """
    if not isinstance(patch.value, dict):
        return patch
    below: dict[str, Any] = base.value if base is not None and isinstance(base.value, dict) else {}
    values = dict(below)
    keys = dict(base.keys) if below and base is not None else {}
    for key, child in patch.value.items():
        if child.value is None:
            values.pop(key, None)
            keys.pop(key, None)
        else:
            values[key] = merge(below.get(key), child)
            keys[key] = patch.place_of_key(key)
    return Node(values, patch.place, keys)
