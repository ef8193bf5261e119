"""Settings: the fields of a section, each with its kind, its description and an example."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from pixel_llm.policy.kinds import ANYTHING, Interpolate, JSONSchema, Kind, SchemaBuilder, Setting
from pixel_llm.policy.kinds.base import resolve_by_key
from pixel_llm.policy.nodes import Node, Path

_MISSING = dataclasses.MISSING


def setting(kind: Kind, description: str, *, example: Any, default: Any = _MISSING) -> Any:
    """A dataclass field that is also a key of the policy language. *default* is a model value."""
    metadata = {"setting": Setting(kind, description, example)}
    if default is _MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Section(Kind):
    """
    A section of the policy: a map with the settings of a config dataclass as its keys.

    *source_settings* are keys that only source files have; merging uses them up.
    """

    model: type
    source_settings: Mapping[str, Setting] = dataclasses.field(default_factory=dict)

    def schema(self, build: SchemaBuilder) -> JSONSchema:
        name = f"{self.model.__name__}Use" if self.source_settings else self.model.__name__
        return build.define(name, lambda: build.collection(self.body(build)))

    def body(self, build: SchemaBuilder) -> JSONSchema:
        """The schema itself, where :meth:`schema` refers to it."""
        properties = {}
        if build.source:
            properties = {name: item.schema(build) for name, item in self.source_settings.items()}
        fields = self.fields()
        for name, field in fields.items():
            properties[name] = field.metadata["setting"].schema(build, field.default)
        schema: JSONSchema = {
            "type": "object",
            "description": (self.model.__doc__ or "").strip().splitlines()[0],
            "properties": properties,
            "additionalProperties": False,
        }
        required = [name for name, field in fields.items() if field.default is field.default_factory is _MISSING]
        if required and not build.source:
            schema["required"] = required
        return schema

    def fields(self) -> dict[str, dataclasses.Field[Any]]:
        """The dataclass fields that are settings, by name."""
        return self._fields

    def settings(self) -> dict[str, Setting]:
        """Every setting that a source file may have, by key."""
        return self._settings

    @cached_property
    def _fields(self) -> dict[str, dataclasses.Field[Any]]:
        return {field.name: field for field in dataclasses.fields(self.model) if "setting" in field.metadata}

    @cached_property
    def _settings(self) -> dict[str, Setting]:
        own = {name: field.metadata["setting"] for name, field in self._fields.items()}
        return {**self.source_settings, **own}

    def freeze(self, value: Mapping[str, Any]) -> Any:
        settings = self.settings()
        return self.model(**{name: settings[name].kind.freeze(child) for name, child in value.items()})

    def thaw(self, value: Any) -> Any:
        return {
            name: item.kind.thaw(getattr(value, name))
            for name, item in ((name, field.metadata["setting"]) for name, field in self.fields().items())
            if getattr(value, name) is not None
        }

    def complain(self, value: Any) -> str:
        if not isinstance(value, self.model):
            return f"must be a {self.model.__name__} (got {value!r})"
        complaints = []
        for name, complain, may_miss in self._complaints:
            found = getattr(value, name)
            if (found is not None or not may_miss) and (complaint := complain(found)):
                complaints.append(f"{name} {complaint}")
        return "; ".join(complaints)

    @cached_property
    def _complaints(self) -> list[tuple[str, Callable[[Any], str], bool]]:
        """How each field is checked, and whether it may be None, ready for those who make many models."""
        return [
            (name, field.metadata["setting"].kind.complain, field.default is None)
            for name, field in self._fields.items()
        ]

    def child(self, key: str) -> Kind:
        settings = self.settings()
        return settings[key].kind if key in settings else ANYTHING

    def resolve(self, node: Node, interpolate: Interpolate, path: Path) -> Node:
        return resolve_by_key(self, node, interpolate, path)
