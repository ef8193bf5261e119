"""Kinds of single values."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from enum import StrEnum
from typing import Any

from pixel_llm.policy.durations import DURATION_PATTERN, format_duration, parse_duration
from pixel_llm.policy.kinds.base import Interpolate, JSONSchema, Kind, SchemaBuilder, to_the_end
from pixel_llm.policy.nodes import Node, Path
from pixel_llm.policy.secrets import Secret
from pixel_llm.policy.sizes import SIZE_OR_ZERO_PATTERN, SIZE_PATTERN, format_size, parse_size


@dataclasses.dataclass(frozen=True)
class Text(Kind):
    """A text. *must_be* completes the sentence "must be …" when *pattern* does not match."""

    must_be: str = "a text"
    pattern: str | None = None
    may_be_empty: bool = True

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        schema: JSONSchema = {"type": "string", "title": self.must_be}
        if self.pattern:
            schema["pattern"] = to_the_end(self.pattern)
        if not self.may_be_empty:
            schema["minLength"] = 1
        return build.scalar(schema)

    def complain(self, value: Any) -> str:
        return "" if isinstance(value, str) else f"must be {self.must_be} (got {value!r})"


@dataclasses.dataclass(frozen=True)
class FileName(Text):
    """
    The path of something that lies beside the policy: relative to the folder of the file that says it.

    What a program says relates to its working directory, as everywhere in a program. ``~`` is the home folder.
    """

    may_be_empty: bool = False

    def resolve(self, node: Node, interpolate: Interpolate, path: Path) -> Node:
        node = interpolate(node, self, path)
        if not isinstance(node.value, str) or not node.value or "${" in node.value:
            return node  # what is wrong is said elsewhere
        name = os.path.expanduser(node.value)  # noqa: PTH111 - Path.expanduser() raises where there is no home
        folder = os.path.dirname(node.place.file)  # noqa: PTH120 - of <overrides> there is none
        return dataclasses.replace(node, value=os.path.abspath(os.path.join(folder, name)))  # noqa: PTH100, PTH118


#: The name under which a program registers a function. No colon, no import path: a policy never names code.
FUNCTION_PATTERN = r"^[A-Za-z][A-Za-z0-9_.-]*$"


@dataclasses.dataclass(frozen=True)
class RegisteredName(Text):
    """
    The name of a function that the program has registered.

    ``load_policies`` finds each one by its kind, and refuses a policy that names what is not there.
    """

    must_be: str = "the name of a registered function"
    pattern: str | None = FUNCTION_PATTERN


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
        return {"type": "string", "title": self.must_be, "pattern": to_the_end(self.pattern)}


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

    def complain(self, value: Any) -> str:
        fits = isinstance(value, int) and not isinstance(value, bool) and self.minimum <= value <= self.maximum
        return "" if fits else f"must be a whole number from {self.minimum} to {self.maximum} (got {value!r})"


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

    def complain(self, value: Any) -> str:
        fits = _is_number(value) and self.minimum <= value <= self.maximum
        return "" if fits else f"must be a number from {self.minimum:g} to {self.maximum:g} (got {value!r})"


@dataclasses.dataclass(frozen=True)
class Flag(Kind):
    """True or false."""

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        return build.scalar({"type": "boolean"})

    def parse(self, text: str) -> bool:
        if text not in ("true", "false"):
            raise ValueError(f"must be true or false (got {text!r})")
        return text == "true"

    def complain(self, value: Any) -> str:
        return "" if isinstance(value, bool) else f"must be True or False (got {value!r})"


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

    def complain(self, value: Any) -> str:
        if isinstance(value, self.options):
            return ""
        names = ", ".join(f"{self.options.__name__}.{option.name}" for option in self.options)
        return f"must be one of {names} (got {value!r})"


@dataclasses.dataclass(frozen=True)
class Duration(Kind):
    """A duration with a unit; float seconds in the model. Longer than 0, unless *may_be_zero*."""

    may_be_zero: bool = False

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        pattern = DURATION_PATTERN if self.may_be_zero else DURATION_PATTERN.replace("^", "^(?=.*[1-9])", 1)
        title = "a duration" if self.may_be_zero else "a duration longer than 0"
        schema = {"type": "string", "title": title, "pattern": to_the_end(pattern)}
        return build.scalar(build.define("duration" if self.may_be_zero else "positive_duration", lambda: schema))

    def parse(self, text: str) -> str:
        parse_duration(text)
        return text

    def freeze(self, value: str) -> float:
        return parse_duration(value)

    def thaw(self, value: float) -> str:
        return format_duration(value)

    def complain(self, value: Any) -> str:
        fits = _is_number(value) and 0 <= value < math.inf and (self.may_be_zero or value > 0)
        least = "0 or more" if self.may_be_zero else "more than 0"
        return "" if fits else f"must be {least} seconds, as a number (got {value!r})"


@dataclasses.dataclass(frozen=True)
class Size(Kind):
    """An amount of memory with a unit; whole bytes in the model. More than 0, unless *may_be_zero*."""

    may_be_zero: bool = False

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        pattern = SIZE_OR_ZERO_PATTERN if self.may_be_zero else SIZE_PATTERN
        schema = {"type": "string", "title": "a size", "pattern": to_the_end(pattern)}
        return build.scalar(build.define("size_or_zero" if self.may_be_zero else "size", lambda: schema))

    def parse(self, text: str) -> str:
        self.freeze(text)
        return text

    def freeze(self, value: str) -> int:
        return 0 if self.may_be_zero and value == "0B" else parse_size(value)

    def thaw(self, value: int) -> str:
        return format_size(value)

    def complain(self, value: Any) -> str:
        least = 0 if self.may_be_zero else 1
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
        return "" if fits else f"must be a number of bytes (got {value!r})"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
