"""Templates: a target's layer that names one is laid over it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from pixel_llm.errors import Place, Problem
from pixel_llm.policy.merging import merge
from pixel_llm.policy.nodes import Node, Path, format_path
from pixel_llm.policy.sections.document import POLICY, TEMPLATE_KINDS
from pixel_llm.policy.suggestions import suggestion

TEMPLATE = "PL006"

#: Looking for what was meant takes time, and after so many problems nobody reads on.
_ENOUGH = 100

_TARGET = POLICY.child("defaults")


class Templates:
    """The `templates` section of one policy. Notes which of them were used, and what is wrong."""

    def __init__(self, document: Node) -> None:
        section = document.value.get("templates")
        self._templates = {layer: _present(node) for layer, node in _present(section).items()}
        self.used: set[tuple[str, str]] = set()
        self.problems: list[Problem] = []
        self._reported: set[Place] = set()

    def names(self, layer: str) -> list[str]:
        """The templates there are for *layer*."""
        return list(self._templates.get(layer, ()))

    def apply(self, target: Node, path: Path) -> Node:
        """*target* with each layer written out in full: short forms expanded, templates below what is said."""
        if not isinstance(target.value, dict):
            return target
        layers = {key: _TARGET.child(key).long_form(child) for key, child in target.value.items()}
        for layer, name in _references(layers):
            template = self._templates.get(layer, {}).get(name.value)
            if template is not None:
                self.used.add((layer, name.value))
                layers[layer] = _over(template, layers[layer], layer)
            else:
                self._report(name, layer, path)
        return dataclasses.replace(target, value=layers)

    def _report(self, name: Node, layer: str, path: Path) -> None:
        if name.place in self._reported:
            return  # it stands in `defaults` or in a pattern, and was found in another target
        self._reported.add(name.place)
        close = suggestion(name.value, self.names(layer)) if len(self.problems) < _ENOUGH else ""
        hint = close or f"; define it under templates.{layer}"
        message = f"there is no template {name.value!r}{hint}"
        self.problems.append(Problem(name.place, format_path((*path, layer)), message, TEMPLATE))


def _present(section: Node | None) -> dict[str, Node]:
    """What *section* holds, without what null has removed."""
    values = section.value if section is not None else None
    return {name: node for name, node in (values or {}).items() if node.value is not None}


def _references(layers: dict[str, Node]) -> Iterator[tuple[str, Node]]:
    for layer in TEMPLATE_KINDS:
        node = layers.get(layer)
        if node is None:
            continue
        name = node.value.get("template") if isinstance(node.value, dict) else node
        if name is not None and isinstance(name.value, str):  # null takes an inherited name away
            yield layer, name


def _over(template: Node, layer_node: Node, layer: str) -> Node:
    if not isinstance(layer_node.value, dict):
        return template
    own = {key: child for key, child in layer_node.value.items() if key != "template"}
    return merge(template, dataclasses.replace(layer_node, value=own), TEMPLATE_KINDS[layer])
