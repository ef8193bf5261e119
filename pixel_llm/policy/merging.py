"""
Merging by RFC 7396 (JSON Merge Patch): maps merge, lists replace, null removes.

Two things are added. A short form that meets a map is written out first, so that
``timeout: {connect: 1s}`` over ``timeout: 30s`` refines it rather than throwing the 30 s
away. And what null has removed leaves a mark, since it must also keep out what patterns and
`defaults` would bring back later; :func:`without_nulls` takes the marks away.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from pixel_llm.policy.kinds import ANYTHING, Kind
from pixel_llm.policy.nodes import Node


def merge(base: Node | None, patch: Node, kind: Kind = ANYTHING) -> Node:
    """
    Lay *patch* over *base*. Every value keeps the place it came from.

    The order of keys is that of *base*, new ones after it.
    """
    if not isinstance(patch.value, dict):
        return patch
    base = kind.long_form(base) if base is not None else None
    below: dict[str, Any] = base.value if base is not None and isinstance(base.value, dict) else {}
    values = dict(below)
    keys = dict(base.keys) if below and base is not None else {}
    for key, child in patch.value.items():
        values[key] = merge(below.get(key), child, kind.child(key))
        keys[key] = patch.place_of_key(key)
    return Node(values, patch.place, keys)


def without_nulls(node: Node) -> Node:
    """*node* without the marks of what was removed. Lists stay as they are."""
    if not isinstance(node.value, dict):
        return node
    values = {key: without_nulls(child) for key, child in node.value.items() if child.value is not None}
    return dataclasses.replace(node, value=values)
