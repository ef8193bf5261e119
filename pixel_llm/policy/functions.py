"""The functions that a policy names: a policy never names code to import, only what the program has registered."""

from __future__ import annotations

from pixel_llm.policy.kinds import Kind, RegisteredName
from pixel_llm.policy.nodes import Node, Path


def function_names(kind: Kind, document: Node) -> list[tuple[Path, Node]]:
    """Every name of a function in *document*, which is of *kind*, with the path to it."""
    found: list[tuple[Path, Node]] = []

    def look(node: Node, kind: Kind, path: Path) -> Node:
        if isinstance(kind, RegisteredName):
            found.append((path, node))
        return node

    kind.resolve(document, look, ())
    return found
