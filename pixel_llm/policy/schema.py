"""The JSON Schemas: one for source files, shipped and read by editors, one for the merged policy."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from pixel_llm.errors import Problem
from pixel_llm.policy.complaints import complain
from pixel_llm.policy.kinds import JSONSchema, SchemaBuilder
from pixel_llm.policy.locating import shipped_folder
from pixel_llm.policy.nodes import Node
from pixel_llm.policy.sections.document import POLICY

SCHEMA_FILE = "policy.schema.json"


def build_schema(*, source: bool) -> JSONSchema:
    """
    Make the schema from the sections.

    With *source*, the one that ``schemas/policy.schema.json`` holds: it lets ``${VAR}``
    stand for any scalar and null remove what is inherited. Without, the stricter one
    that a merged policy must meet.
    """
    build = SchemaBuilder(source=source)
    body = POLICY.body(build)
    if source:
        body["required"] = ["version"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pixel-llm policy",
        **body,
        "$defs": build.definitions,
    }


def render_schema() -> str:
    """The text of ``schemas/policy.schema.json``."""
    return json.dumps(build_schema(source=True), indent=2, ensure_ascii=False) + "\n"


def check_source(document: Node) -> list[Problem]:
    """Check one file, as it was written, against the shipped schema."""
    return _check(_source_validator(), document)


def check_effective(document: Node) -> list[Problem]:
    """Check a merged and interpolated policy against the stricter schema."""
    return _check(_effective_validator(), document)


def _check(validator: Any, document: Node) -> list[Problem]:
    return [
        problem for violation in validator.iter_errors(document.plain()) for problem in complain(violation, document)
    ]


@cache
def _source_validator() -> Any:
    return _validator(json.loads((shipped_folder("schemas") / SCHEMA_FILE).read_text("utf-8")))


@cache
def _effective_validator() -> Any:
    return _validator(build_schema(source=False))


def _validator(schema: JSONSchema) -> Any:
    """
    A validator of *schema* with each definition in the place of the references to it.

    Following references took a third of the time. No definition refers to itself.
    """
    definitions = schema.pop("$defs")

    def inlined(part: Any) -> Any:
        if isinstance(part, list):
            return [inlined(item) for item in part]
        if not isinstance(part, dict):
            return part
        whole = {key: inlined(value) for key, value in part.items() if key != "$ref"}
        return {**definition(part["$ref"]), **whole} if "$ref" in part else whole

    @cache
    def definition(reference: str) -> Any:
        return inlined(definitions[reference.removeprefix("#/$defs/")])

    return Draft202012Validator(inlined(schema))
