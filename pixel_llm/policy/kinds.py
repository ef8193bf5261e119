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
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from pixel_llm.policy.durations import DURATION_PATTERN, format_duration, parse_duration
from pixel_llm.policy.nodes import Node, Path
from pixel_llm.policy.secrets import Secret
from pixel_llm.policy.suggestions import one_of

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


def _to_the_end(pattern: str) -> str:
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

    def resolve(self, node: Node, interpolate: Interpolate, path: Path) -> Node:
        """Interpolate this node and everything below it."""
        if isinstance(node.value, dict):
            children = {key: self.resolve(child, interpolate, (*path, key)) for key, child in node.value.items()}
            return dataclasses.replace(node, value=children)
        if isinstance(node.value, list):
            items = [self.resolve(child, interpolate, (*path, index)) for index, child in enumerate(node.value)]
            return dataclasses.replace(node, value=items)
        return interpolate(node, self, path)


@dataclasses.dataclass(frozen=True)
class Text(Kind):
    """A text. *must_be* completes the sentence "must be …" when *pattern* does not match."""

    must_be: str = "a text"
    pattern: str | None = None
    may_be_empty: bool = True

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        schema: JSONSchema = {"type": "string", "title": self.must_be}
        if self.pattern:
            schema["pattern"] = _to_the_end(self.pattern)
        if not self.may_be_empty:
            schema["minLength"] = 1
        return build.scalar(schema)


@dataclasses.dataclass(frozen=True)
class SecretText(Kind):
    """A text that nothing ever prints."""

    keeps_secrets = True

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        return build.scalar({"type": "string", "title": "a text", "writeOnly": True})

    def freeze(self, value: str) -> Secret | None:
        return Secret(value) if value else None


@dataclasses.dataclass(frozen=True)
class Literal(Kind):
    """Exactly one value, written out."""

    value: int

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        return {"const": self.value}


@dataclasses.dataclass(frozen=True)
class Name(Kind):
    """A name that is used before variables are known, so none may stand for it."""

    must_be: str
    pattern: str

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        return {"type": "string", "title": self.must_be, "pattern": _to_the_end(self.pattern)}


@dataclasses.dataclass(frozen=True)
class Integer(Kind):
    """A whole number between two bounds, both included."""

    minimum: int
    maximum: int

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        return build.scalar({"type": "integer", "minimum": self.minimum, "maximum": self.maximum})

    def parse(self, text: str) -> int:
        if not re.fullmatch(r"[-+]?\d{1,18}", text):
            raise ValueError(f"must be a whole number (got {text!r})")
        return int(text)

    def freeze(self, value: float) -> int:
        return int(value)  # JSON Schema takes 3.0 for an integer


@dataclasses.dataclass(frozen=True)
class Number(Kind):
    """A number between two bounds, both included."""

    minimum: float
    maximum: float

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        return build.scalar({"type": "number", "minimum": self.minimum, "maximum": self.maximum})

    def parse(self, text: str) -> float:
        if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", text):
            raise ValueError(f"must be a number (got {text!r})")
        return float(text)

    def freeze(self, value: float) -> float:
        return float(value)


@dataclasses.dataclass(frozen=True)
class Flag(Kind):
    """True or false."""

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        return build.scalar({"type": "boolean"})

    def parse(self, text: str) -> bool:
        if text not in ("true", "false"):
            raise ValueError(f"must be true or false (got {text!r})")
        return text == "true"


@dataclasses.dataclass(frozen=True)
class Choice(Kind):
    """One of the values of an enumeration."""

    options: type[StrEnum]

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        return build.scalar({"enum": [option.value for option in self.options]})

    def freeze(self, value: str) -> StrEnum:
        return self.options(value)

    def thaw(self, value: Any) -> Any:
        return value.value


@dataclasses.dataclass(frozen=True)
class Duration(Kind):
    """A duration with a unit; float seconds in the model."""

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        schema = {"type": "string", "title": "a duration", "pattern": _to_the_end(DURATION_PATTERN)}
        return build.scalar(build.define("duration", lambda: schema))

    def parse(self, text: str) -> str:
        parse_duration(text)
        return text

    def freeze(self, value: str) -> float:
        return parse_duration(value)

    def thaw(self, value: float) -> str:
        return format_duration(value)


@dataclasses.dataclass(frozen=True)
class MapOf(Kind):
    """A map from names to values of one kind. *must_be* says what a name must be."""

    kind: Kind
    pattern: str
    must_be: str

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        names = {"pattern": _to_the_end(self.pattern), "title": self.must_be}
        return build.collection(
            {"type": "object", "propertyNames": names, "additionalProperties": self.kind.schema(build)}
        )

    def freeze(self, value: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.kind.freeze(child) for name, child in value.items()}

    def resolve(self, node: Node, interpolate: Interpolate, path: Path) -> Node:
        if not isinstance(node.value, dict):
            return interpolate(node, self, path)
        children = {name: self.kind.resolve(child, interpolate, (*path, name)) for name, child in node.value.items()}
        return dataclasses.replace(node, value=children)


@dataclasses.dataclass(frozen=True)
class ListOf(Kind):
    """A list, not empty, of values of one kind; in the model a tuple."""

    kind: Kind

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        return build.collection({"type": "array", "minItems": 1, "items": self.kind.schema(build)})

    def freeze(self, value: list[Any]) -> tuple[Any, ...]:
        return tuple(self.kind.freeze(child) for child in value)

    def thaw(self, value: tuple[Any, ...]) -> list[Any]:
        return [self.kind.thaw(child) for child in value]

    def resolve(self, node: Node, interpolate: Interpolate, path: Path) -> Node:
        if not isinstance(node.value, list):
            return interpolate(node, self, path)
        items = [self.kind.resolve(child, interpolate, (*path, index)) for index, child in enumerate(node.value)]
        return dataclasses.replace(node, value=items)


@dataclasses.dataclass(frozen=True)
class TextOr(Kind):
    """A short form, written as text, or the long form. *expand* makes the long form of the short one."""

    text: Kind
    long: Kind
    expand: Callable[[str], Any] | None = None

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        long = self.long.schema(build)
        if self.expand is None and not build.source:
            return long  # the text named something that has been put in its place
        # Only what looks like the long form is held against it, so that `30` hears that it lacks a unit.
        return {"if": {"type": ["object", "array", "null"]}, "then": long, "else": self.text.schema(build)}

    def parse(self, text: str) -> Any:
        return self.text.parse(text)

    def freeze(self, value: Any) -> Any:
        return self.long.freeze(self.expand(value) if self.expand and isinstance(value, str) else value)

    def thaw(self, value: Any) -> Any:
        return self.long.thaw(value)

    def resolve(self, node: Node, interpolate: Interpolate, path: Path) -> Node:
        kind = self.text if isinstance(node.value, str) else self.long
        return kind.resolve(node, interpolate, path)


@dataclasses.dataclass(frozen=True)
class OneKeyOf(Kind):
    """
    One of several things: a bare name, or a map with a single key that says which.

    *make* turns the name and its frozen value into the model's form; *name_of* goes back.
    """

    bare: tuple[str, ...]
    keyed: Mapping[str, Kind]
    make: Callable[[str, Any], Any]

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        properties = {name: kind.schema(build) for name, kind in self.keyed.items()}
        keyed = {
            "type": "object",
            "title": f"one of {one_of([*self.bare, *(f'{name}: …' for name in self.keyed)])}",
            "properties": properties,
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        }
        return {"if": {"type": "string"}, "then": build.scalar({"enum": list(self.bare)}), "else": keyed}

    def freeze(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.make(value, None)
        ((name, child),) = value.items()
        return self.make(name, self.keyed[name].freeze(child))

    def resolve(self, node: Node, interpolate: Interpolate, path: Path) -> Node:
        if not isinstance(node.value, dict):
            return interpolate(node, self, path)
        children = {
            name: self.keyed[name].resolve(child, interpolate, (*path, name)) if name in self.keyed else child
            for name, child in node.value.items()
        }
        return dataclasses.replace(node, value=children)
