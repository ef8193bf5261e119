"""Kinds of values: what a setting may hold. One definition makes schema, parsing, merging and reference page."""

from pixel_llm.policy.kinds.base import ANYTHING, Interpolate, JSONSchema, Kind, SchemaBuilder
from pixel_llm.policy.kinds.collections import LONGEST_NAME, MAX_ITEMS, ListOf, MapOf, NameOr, Steps, TextOr
from pixel_llm.policy.kinds.scalars import (
    FUNCTION_PATTERN,
    Choice,
    Duration,
    FileName,
    Flag,
    Integer,
    Literal,
    Name,
    Number,
    RegisteredName,
    SecretText,
    Size,
    Text,
)
from pixel_llm.policy.kinds.setting import Setting

__all__ = [
    "ANYTHING",
    "FUNCTION_PATTERN",
    "LONGEST_NAME",
    "MAX_ITEMS",
    "Choice",
    "Duration",
    "FileName",
    "Flag",
    "Integer",
    "Interpolate",
    "JSONSchema",
    "Kind",
    "ListOf",
    "Literal",
    "MapOf",
    "Name",
    "NameOr",
    "Number",
    "RegisteredName",
    "SchemaBuilder",
    "SecretText",
    "Setting",
    "Size",
    "Steps",
    "Text",
    "TextOr",
]
