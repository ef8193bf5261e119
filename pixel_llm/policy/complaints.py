"""What jsonschema finds, said to the person who wrote the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pixel_llm.errors import ErrorCategory, ErrorCode, Problem
from pixel_llm.policy.durations import duration_complaint, parse_duration
from pixel_llm.policy.nodes import Node, format_path
from pixel_llm.policy.showing import show
from pixel_llm.policy.sizes import size_complaint
from pixel_llm.policy.suggestions import one_of, suggestion

_TYPES = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "a mapping",
    "array": "a list",
}


#: Names that are right in themselves, be it at another place.
_ERROR_NAMES = {*ErrorCategory, *ErrorCode}


def complain(violation: Any, document: Node) -> Iterator[Problem]:
    """Turn one violation, a ``jsonschema.ValidationError``, into problems, each with its place."""
    path = tuple(violation.absolute_path)
    node = document.find(path)
    match violation.validator:
        case "additionalProperties":
            yield from _unknown_keys(violation, node, path)
        case "pattern" | "maxLength" if "propertyNames" in violation.schema_path:
            name = violation.instance
            yield Problem(node.place_of_key(name), format_path((*path, name)), _describe(violation))
        case "oneOf" if isinstance(violation.instance, dict) and _unknown_in(violation):
            pass  # a misspelt step is told by its key
        case "required":
            missing = [key for key in violation.validator_value if key not in violation.instance]
            for key in missing:
                yield Problem(node.place, format_path(path), f"the key {key!r} is missing")
        case _:
            yield Problem(node.place, format_path(path), _describe(violation))


def _unknown_keys(violation: Any, node: Node, path: tuple[str | int, ...]) -> Iterator[Problem]:
    known = list(violation.schema["properties"])
    for key in _unknown_in(violation):
        hint = suggestion(key, known) or f"; known here: {one_of(known)}"
        yield Problem(node.place_of_key(key), format_path((*path, key)), f"unknown key {key!r}{hint}")


def _unknown_in(violation: Any) -> list[str]:
    return [key for key in violation.instance if key not in violation.schema["properties"]]


def _describe(violation: Any) -> str:
    value, limit, schema = violation.instance, violation.validator_value, violation.schema
    title = str(schema.get("title", ""))
    if title.startswith("a duration") and not _is_zero(value):
        return duration_complaint(value)
    if title == "a size":
        return size_complaint(value)
    got = "" if schema.get("writeOnly") else f" (got {show(value)})"
    match violation.validator:
        case "type":
            wanted = limit if isinstance(limit, str) else limit[0]  # ["object", "null"]: null only removes
            return f"must be {schema.get('title') or _TYPES.get(wanted, wanted)}{got}"
        case "enum":
            hint = suggestion(value, limit) if isinstance(value, str) else ""
            return f"must be {one_of(map(str, limit))}{got}{hint}"
        case "const":
            return f"must be {limit}{got}"
        case "minimum":
            return f"must be at least {limit}{got}"
        case "maximum":
            return f"must be at most {limit}{got}"
        case "anyOf":
            is_name = isinstance(value, str) and value in _ERROR_NAMES
            hint = "" if is_name else suggestion(str(value), limit[0]["enum"])
            return f"{_must_be(violation)}{got}{hint}"
        case "minItems" | "minLength":
            return "must not be empty"
        case "maxLength":
            return f"must have at most {limit} characters (got {len(value)})"
        case "maxItems":
            return f"must have at most {limit} entries (got {len(value)})"
        case _:
            return f"{_must_be(violation)}{got}"


def _is_zero(value: object) -> bool:
    """True for ``0s``: a duration indeed, but where one longer than 0 is wanted."""
    try:
        return parse_duration(str(value)) == 0
    except ValueError:
        return False


def _must_be(violation: Any) -> str:
    return f"must be {violation.schema.get('title', violation.message)}"
