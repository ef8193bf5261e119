"""A setting: what a policy may say under one key."""

from __future__ import annotations

import dataclasses
from typing import Any

from pixel_llm.policy.kinds.base import JSONSchema, Kind, SchemaBuilder

_MISSING = dataclasses.MISSING


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """What a policy may say under one key. *example* is written as in a policy file."""

    kind: Kind
    description: str
    example: Any

    def schema(self, build: SchemaBuilder, default: Any = _MISSING) -> JSONSchema:
        """The property's schema: description, default (a model value) and example stand beside the kind's own."""
        schema: JSONSchema = {"description": self.description}
        if default is not _MISSING and default is not None and not dataclasses.is_dataclass(default):
            schema["default"] = self.kind.thaw(default)
        return {**schema, "examples": [self.example], **self.kind.schema(build)}
