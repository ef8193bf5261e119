"""A YAML document as a tree in which every value knows its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pixel_llm.errors import Place

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """
    One value with its place.

    *value* is a scalar, a dict of nodes or a list of nodes; treat it as immutable.
    *keys* holds the place of each key of a dict. *empty* marks a value that was
    left out (``retry:`` and nothing after it), which is not the same as ``null``.
    """

    value: Any
    place: Place
    keys: Mapping[str, Place] = field(default_factory=dict)
    empty: bool = False

    def plain(self) -> Any:
        """The tree as ordinary Python values."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def find(self, path: Iterable[str | int]) -> Node:
        """The node at *path*, or the deepest one on the way there."""
        node = self
        for part in path:
            children: Any = node.value if isinstance(node.value, dict | list) else ()  # a text's parts are no nodes
            try:
                node = children[part]
            except (KeyError, IndexError, TypeError):
                return node
        return node

    def place_of_key(self, key: str) -> Place:
        """Where *key* of this dict stands."""
        return self.keys.get(key, self.place)


def node_from(value: Any, place: Place) -> Node:
    """Make a tree from ordinary Python values (an override given in code), all at *place*."""
    if isinstance(value, Mapping):
        children = {str(key): node_from(child, place) for key, child in value.items()}
        return Node(children, place)
    if isinstance(value, list | tuple):
        return Node([node_from(child, place) for child in value], place)
    return Node(value, place)


def format_path(path: Iterable[str | int]) -> str:
    """Write a path as people say it: ``targets.lm_studio.chat.fallback[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
