"""
Kinds of values: what a setting may hold.

Each kind knows its JSON Schema, how to read itself from interpolated text, and how
to become the value that the model keeps. Sections, lists and maps are kinds too, so
one definition of a section makes its schema, its parsing and its reference page.

A kind describes two schemas: the *source* one, which policy files are checked by (a
``${VAR}`` may stand for any scalar, ``null`` removes what is inherited), and the
*effective* one for the merged policy, which allows neither.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from pixel_llm.policy.nodes import Node, Path

JSONSchema = dict[str, Any]

#: Gives the interpolated form of a scalar node: ``(node, kind, path) -> node``.
Interpolate = Callable[[Node, "Kind", Path], Node]


class SchemaBuilder:
    """Collects the shared definitions of one schema while it is built."""

    def __init__(self, *, source: bool) -> None:
        self.source = source
        self.definitions: dict[str, JSONSchema] = {}
        if source:
            self.definitions["inherited_or_variable"] = {
                "description": "null removes what is inherited; ${VAR} or ${VAR:-default} takes a variable.",
                "anyOf": [{"type": "null"}, {"type": "string", "pattern": r"(^|[^$])\$\{"}],
            }

    def scalar(self, schema: JSONSchema) -> JSONSchema:
        """In a source file, let null and ``${VAR}`` stand for this scalar too."""
        if not self.source:
            return schema
        return {"if": {"$ref": "#/$defs/inherited_or_variable"}, "then": True, "else": schema}

    def collection(self, schema: JSONSchema) -> JSONSchema:
        """In a source file, let null stand for this map or list too."""
        return {**schema, "type": [schema["type"], "null"]} if self.source else schema

    def define(self, name: str, make: Callable[[], JSONSchema]) -> JSONSchema:
        """A reference to the definition *name*, made on first use."""
        if name not in self.definitions:
            self.definitions[name] = {}  # taken, should *make* come back here
            self.definitions[name] = make()
        return {"$ref": f"#/$defs/{name}"}


def to_the_end(pattern: str) -> str:
    """*pattern*, whose ``$`` then does not match before a final line break, as Python's would."""
    return pattern + r"(?!\n)"


class Kind:
    """A kind of value; the base class is the kind of anything at all."""

    #: Only a kind that keeps secrets may take a variable that is named like one.
    keeps_secrets = False

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        """The JSON Schema of this kind."""
        return {}

    def parse(self, text: str) -> Any:
        """Type interpolated *text*. Raises ValueError if it cannot be what is wanted."""
        return text

    def freeze(self, value: Any) -> Any:
        """Turn a valid plain value into what the model keeps."""
        return value

    def thaw(self, value: Any) -> Any:
        """Turn a model value into what a policy file would say."""
        return value

    def complain(self, value: Any) -> str:
        """What is wrong with *value* as a model value that a program has made; empty if nothing is."""
        return ""

    def child(self, key: str) -> Kind:
        """The kind of what stands under *key*."""
        return ANYTHING

    def long_form(self, node: Node) -> Node:
        """*node* written out in full, where there is a short way to write it."""
        return node

    def resolve(self, node: Node, interpolate: Interpolate, path: Path) -> Node:
        """Interpolate this node and everything below it."""
        if isinstance(node.value, dict):
            children = {key: self.resolve(child, interpolate, (*path, key)) for key, child in node.value.items()}
            return dataclasses.replace(node, value=children)
        if isinstance(node.value, list):
            items = [self.resolve(child, interpolate, (*path, index)) for index, child in enumerate(node.value)]
            return dataclasses.replace(node, value=items)
        return interpolate(node, self, path)


def resolve_by_key(kind: Kind, node: Node, interpolate: Interpolate, path: Path) -> Node:
    """:meth:`Kind.resolve` of a *kind* of maps, whose values have kinds of their own."""
    if not isinstance(node.value, dict):
        return interpolate(node, kind, path)
    children = {key: kind.child(key).resolve(child, interpolate, (*path, key)) for key, child in node.value.items()}
    return dataclasses.replace(node, value=children)


ANYTHING = Kind()
