"""
From what is written to what holds: `templates`, `defaults` and target patterns are used up.

A target is made of `defaults`, then the patterns that cover it from the least to the most
specific, then its own section, merged setting by setting.
"""

from __future__ import annotations

import dataclasses

from pixel_llm.policy.merging import merge, without_nulls
from pixel_llm.policy.nodes import Node
from pixel_llm.policy.sections.document import POLICY
from pixel_llm.policy.sections.target import SYSTEM_TARGETS, is_pattern, patterns_for
from pixel_llm.policy.templates import Templates

_TARGET = POLICY.child("defaults")
_USED_UP = ("defaults", "templates")


def expand(document: Node, templates: Templates) -> Node:
    """
    Write out every target of a merged and interpolated *document*.

    Patterns stay in it, written out like targets, for names that only the program knows. The
    system's own targets are there if anything is said of them, be it by a pattern.
    """
    values = {key: child for key, child in document.value.items() if key not in _USED_UP}
    defaults = document.value.get("defaults")
    section = values.get("targets")
    written = section.value if section is not None and isinstance(section.value, dict) else {}
    patterns = {name for name in written if is_pattern(name)}
    system = [name for name in SYSTEM_TARGETS if defaults is not None or patterns_for(name, patterns)]
    expanded: dict[str, Node] = {}
    for name in dict.fromkeys([*written, *system]):
        sources = [defaults, *(written[pattern] for pattern in patterns_for(name, patterns)), written.get(name)]
        merged = _merged([source for source in sources if source is not None])
        expanded[name] = templates.apply(merged, ("targets", name))
    place = section.place if section is not None else document.place
    keys = dict(section.keys) if section is not None else {}
    if expanded:
        values["targets"] = Node(expanded, place, keys)
    return without_nulls(dataclasses.replace(document, value=values))


def _merged(layers: list[Node]) -> Node:
    target: Node | None = None
    for layer in layers:
        target = merge(target, layer, _TARGET)
    assert target is not None  # noqa: S101 - a name stands for at least one layer
    return target
