"""Kinds of maps and lists, and of values that may be written in two ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from pixel_llm.policy.kinds.base import (
    ANYTHING,
    Interpolate,
    JSONSchema,
    Kind,
    SchemaBuilder,
    resolve_by_key,
    to_the_end,
)
from pixel_llm.policy.kinds.setting import Setting
from pixel_llm.policy.nodes import Node, Path
from pixel_llm.policy.suggestions import one_of


@dataclasses.dataclass(frozen=True)
class MapOf(Kind):
    """A map from names to values of one kind. *must_be* says what a name must be."""

    kind: Kind
    pattern: str
    must_be: str

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        names = {"pattern": to_the_end(self.pattern), "maxLength": LONGEST_NAME, "title": self.must_be}
        return build.collection(
            {"type": "object", "propertyNames": names, "additionalProperties": self.kind.schema(build)}
        )

    def freeze(self, value: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.kind.freeze(child) for name, child in value.items()}

    def thaw(self, value: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.kind.thaw(child) for name, child in value.items()}

    def child(self, key: str) -> Kind:
        return self.kind

    def resolve(self, node: Node, interpolate: Interpolate, path: Path) -> Node:
        return resolve_by_key(self, node, interpolate, path)


#: No list of a policy is longer.
MAX_ITEMS = 100

#: No name that a policy gives is longer, in characters; names are labels of logs and metrics.
LONGEST_NAME = 200


@dataclasses.dataclass(frozen=True)
class ListOf(Kind):
    """A list, neither empty nor endless, of values of one kind; in the model a tuple."""

    kind: Kind

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        items = self.kind.schema(build)
        return build.collection({"type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": items})

    def freeze(self, value: list[Any]) -> tuple[Any, ...]:
        return tuple(self.kind.freeze(child) for child in value)

    def thaw(self, value: tuple[Any, ...]) -> list[Any]:
        return [self.kind.thaw(child) for child in value]

    def complain(self, value: Any) -> str:
        if not isinstance(value, tuple) or not value:
            return f"must be a tuple that is not empty (got {value!r})"
        return "; ".join(complaint for child in value if (complaint := self.kind.complain(child)))

    def resolve(self, node: Node, interpolate: Interpolate, path: Path) -> Node:
        if not isinstance(node.value, list):
            return interpolate(node, self, path)
        items = [self.kind.resolve(child, interpolate, (*path, index)) for index, child in enumerate(node.value)]
        return dataclasses.replace(node, value=items)


@dataclasses.dataclass(frozen=True)
class TextOr(Kind):
    """
    A short form, written as text, or the long form.

    *key* is the setting of the long form that the short one stands for: ``timeout: 30s`` is
    ``timeout: {attempt: 30s}``. Without it, the text is used up before the policy is frozen.
    """

    text: Kind
    long: Kind
    key: str | None = None

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        long = self.long.schema(build)
        if not build.source:
            return long
        # Only what looks like the long form is held against it, so that `30` hears that it lacks a unit.
        return {"if": {"type": ["object", "array", "null"]}, "then": long, "else": self.text.schema(build)}

    def freeze(self, value: Any) -> Any:
        return self.long.freeze(value)

    def thaw(self, value: Any) -> Any:
        return self.long.thaw(value)

    def complain(self, value: Any) -> str:
        return self.long.complain(value)

    def child(self, key: str) -> Kind:
        return self.long.child(key)

    def long_form(self, node: Node) -> Node:
        if self.key is None or isinstance(node.value, dict) or node.value is None:
            return node
        return Node({self.key: node}, node.place, {self.key: node.place})

    def resolve(self, node: Node, interpolate: Interpolate, path: Path) -> Node:
        kind = self.text if isinstance(node.value, str) else self.long
        return kind.resolve(node, interpolate, path)


@dataclasses.dataclass(frozen=True)
class NameOr(TextOr):
    """The name of something that stands elsewhere in the policy, or the thing itself. The model keeps either."""

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        long = self.long.schema(build)
        return {"if": {"type": ["object", "array", "null"]}, "then": long, "else": self.text.schema(build)}

    def freeze(self, value: Any) -> Any:
        return self.text.freeze(value) if isinstance(value, str) else self.long.freeze(value)

    def thaw(self, value: Any) -> Any:
        return self.text.thaw(value) if isinstance(value, str) else self.long.thaw(value)

    def complain(self, value: Any) -> str:
        return "" if isinstance(value, str) else self.long.complain(value)


@dataclasses.dataclass(frozen=True)
class Steps(Kind):
    """
    One step of a chain: a bare name, or a map with a key that says which step it is, and *extra* keys.

    *make* turns the name, its frozen value and the frozen extras into the model's form; *unmake* goes back.
    """

    bare: tuple[str, ...]
    keyed: Mapping[str, Setting]
    extra: Mapping[str, Setting]
    make: Callable[[str, Any, Mapping[str, Any]], Any]
    unmake: Callable[[Any], tuple[str, Any, Mapping[str, Any]]]

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        settings = {**self.keyed, **self.extra}
        keyed = {
            "type": "object",
            "title": f"one of {one_of([*self.bare, *(f'{name}: …' for name in self.keyed)])}",
            "properties": {name: item.schema(build) for name, item in settings.items()},
            "additionalProperties": False,
            "oneOf": [{"required": [name]} for name in self.keyed],
        }
        return {"if": {"type": "string"}, "then": build.scalar({"enum": list(self.bare)}), "else": keyed}

    def freeze(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.make(value, None, {})
        extras = {name: item.kind.freeze(value[name]) for name, item in self.extra.items() if name in value}
        name = next(name for name in self.keyed if name in value)
        return self.make(name, self.keyed[name].kind.freeze(value[name]), extras)

    def thaw(self, value: Any) -> Any:
        name, inner, extras = self.unmake(value)
        if name in self.bare and not extras:
            return name
        thawed = {key: self.extra[key].kind.thaw(extra) for key, extra in extras.items()}
        return {name: self.keyed[name].kind.thaw(inner), **thawed}

    def child(self, key: str) -> Kind:
        settings = {**self.keyed, **self.extra}
        return settings[key].kind if key in settings else ANYTHING

    def resolve(self, node: Node, interpolate: Interpolate, path: Path) -> Node:
        return resolve_by_key(self, node, interpolate, path)
