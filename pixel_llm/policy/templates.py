"""Templates: a target's layer that is a name becomes the template of that name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from pixel_llm.errors import Problem
from pixel_llm.policy.nodes import Node, format_path
from pixel_llm.policy.sections.document import TEMPLATE_KINDS
from pixel_llm.policy.suggestions import suggestion


def apply_templates(document: Node) -> tuple[Node, list[Problem]]:
    """Put each named template in its place and drop the `templates` section."""
    problems: list[Problem] = []
    values = {key: child for key, child in document.value.items() if key != "templates"}
    templates = document.value.get("templates")
    targets = values.get("targets")
    if targets is not None and isinstance(targets.value, dict):
        applied = {
            name: _apply(name, target, templates, problems) if isinstance(target.value, dict) else target
            for name, target in targets.value.items()
        }
        values["targets"] = dataclasses.replace(targets, value=applied)
    return dataclasses.replace(document, value=values), problems


def _apply(name: str, target: Node, templates: Node | None, problems: list[Problem]) -> Node:
    layers = dict(target.value)
    for layer, node in _named(target):
        known = templates.find([layer]).value if templates is not None and layer in templates.value else {}
        if node.value in known:
            layers[layer] = known[node.value]
        else:
            where = format_path(("targets", name, layer))
            hint = suggestion(node.value, known) or f"; define it under templates.{layer}"
            problems.append(Problem(node.place, where, f"there is no template {node.value!r}{hint}"))
    return dataclasses.replace(target, value=layers)


def _named(target: Node) -> Iterator[tuple[str, Node]]:
    for layer in TEMPLATE_KINDS:
        node = target.value.get(layer)
        if node is not None and isinstance(node.value, str):
            yield layer, node
