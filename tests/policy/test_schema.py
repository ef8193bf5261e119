from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pixel_llm.errors import Place
from pixel_llm.policy import build_schema, render_schema, shipped_folder
from pixel_llm.policy.kinds import Kind, ListOf, MapOf, Steps, TextOr
from pixel_llm.policy.nodes import node_from
from pixel_llm.policy.schema import SCHEMA_FILE, check_effective, check_source
from pixel_llm.policy.sections.document import POLICY
from pixel_llm.policy.settings import Section

SHIPPED = json.loads((shipped_folder("schemas") / SCHEMA_FILE).read_text("utf-8"))


def walk(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema in *schema*; not its examples, defaults and enumerations."""
    if isinstance(schema, list):
        for item in schema:
            yield from walk(item)
    if not isinstance(schema, dict):
        return
    yield schema
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            for child in value.values():
                yield from walk(child)
        elif key not in ("examples", "default", "enum", "const", "required"):
            yield from walk(value)


def sections(kind: Kind) -> Iterator[Section]:
    """*kind* and every kind in it that is a section."""
    match kind:
        case Section():
            yield kind
            children = [item.kind for item in kind.settings().values()]
        case ListOf() | MapOf():
            children = [kind.kind]
        case TextOr():
            children = [kind.text, kind.long]
        case Steps():
            children = [item.kind for item in (*kind.keyed.values(), *kind.extra.values())]
        case _:
            children = []
    for child in children:
        yield from sections(child)


def name_of(section: Section) -> str:
    """Its definition in the schema: where a template may be named beside its settings, that is another one."""
    return f"{section.model.__name__}{'Use' if section.source_settings else ''}"


SECTIONS = list({name_of(section): section for section in sections(POLICY)}.values())
SETTINGS = [
    pytest.param(section, name, id=f"{name_of(section)}.{name}") for section in SECTIONS for name in section.settings()
]


def schema_of(section: Section) -> dict[str, Any]:
    return SHIPPED if section is POLICY else SHIPPED["$defs"][name_of(section)]


class TestShippedSchema:
    def test_is_up_to_date(self):
        """
        The file in ``schemas/`` is what the sections make; ``pixel-llm policy schema`` prints it.
        """
        assert render_schema() == (shipped_folder("schemas") / SCHEMA_FILE).read_text("utf-8")

    @pytest.mark.parametrize("source", [True, False])
    def test_is_a_json_schema(self, source):
        """
        Both schemas meet the 2020-12 metaschema.
        """
        schema = build_schema(source=source)
        Draft202012Validator.check_schema(schema)

        assert "https://json-schema.org/draft/2020-12/schema" == schema["$schema"]

    @pytest.mark.parametrize("source", [True, False])
    def test_refuses_unknown_keys(self, source):
        """
        Every object is closed; only maps, whose keys are names, take any key of the right form.
        """
        for schema in walk(build_schema(source=source)):
            if "properties" in schema:
                assert schema["additionalProperties"] is False
            elif "additionalProperties" in schema:
                assert "pattern" in schema["propertyNames"]

    @pytest.mark.parametrize("source", [True, False])
    def test_every_definition_is_used(self, source):
        """
        No definition is left over, and no reference leads nowhere.
        """
        schema = build_schema(source=source)
        references = {item["$ref"] for item in walk(schema) if "$ref" in item}

        assert {f"#/$defs/{name}" for name in schema["$defs"]} == references

    def test_patterns_are_portable(self):
        """
        Patterns mean the same to Python and to the JavaScript of editors: no ``\\d``, which is any digit here
        and ASCII there, and no end that lets a line break through.
        """
        patterns = [schema["pattern"] for schema in walk(SHIPPED) if "pattern" in schema]
        ends = [pattern for pattern in patterns if "$" in pattern.replace(r"\$", "").replace("[^$]", "")]

        assert [] == [pattern for pattern in patterns if r"\d" in pattern or r"\w" in pattern]
        assert [] == [pattern for pattern in ends if not pattern.endswith(r"$(?!\n)") and pattern != r"(^|[^$])\$\{"]

    def test_the_effective_one_knows_no_variables(self):
        """
        A merged policy holds neither references nor nulls to remove something, `extends`, `defaults` or templates.
        """
        schema = build_schema(source=False)

        assert "inherited_or_variable" not in schema["$defs"]
        assert "Templates" not in schema["$defs"]
        assert not any("template" in item.get("properties", {}) for item in walk(schema))
        assert {"extends", "defaults", "templates"} == set(SHIPPED["properties"]) - set(schema["properties"])


class TestSettings:
    @pytest.mark.parametrize(("section", "name"), SETTINGS)
    def test_is_described(self, section, name):
        """
        Every setting has a sentence for the editor to show, and an example.
        """
        schema = schema_of(section)["properties"][name]

        assert schema["description"].endswith(".")
        assert schema["examples"]

    @pytest.mark.parametrize(("section", "name"), SETTINGS)
    def test_example_is_valid(self, section, name):
        """
        The example is what a policy file may say there.
        """
        schema = schema_of(section)["properties"][name]
        validator = Draft202012Validator({**schema, "$defs": SHIPPED["$defs"]})

        assert [] == [error for example in schema["examples"] for error in validator.iter_errors(example)]

    @pytest.mark.parametrize(("section", "name"), SETTINGS)
    def test_default_is_the_model_s(self, section, name):
        """
        The default that the schema shows is the one that the model has.
        """
        schema = schema_of(section)["properties"][name]
        field = section.fields().get(name)
        default = field.default if field is not None else None
        if default in (None, dataclasses.MISSING) or dataclasses.is_dataclass(default):
            assert "default" not in schema
        else:
            assert default == section.settings()[name].kind.freeze(schema["default"])

    @pytest.mark.parametrize("section", SECTIONS, ids=name_of)
    def test_every_field_is_a_setting(self, section):
        """
        A config has no field that a policy cannot set, and the schema no property that no field takes.
        """
        names = {field.name for field in dataclasses.fields(section.model)}

        assert names == set(section.fields())
        assert names | set(section.source_settings) == set(schema_of(section)["properties"])

    @pytest.mark.parametrize("section", SECTIONS, ids=name_of)
    def test_configs_are_frozen(self, section):
        """
        Configs are immutable, slotted and made by keyword only.
        """
        assert section.model.__dataclass_params__.frozen
        assert all(field.kw_only for field in dataclasses.fields(section.model))
        assert hasattr(section.model, "__slots__")


class TestChecks:
    def test_source_lets_null_and_variables_stand_for_scalars(self):
        """
        In a file, null removes and a variable stands for any scalar; in the merged policy both are wrong.
        """
        value = {"version": 1, "lm_studio": {"model": None, "generation": {"max_tokens": "${N}"}}}
        document = node_from(value, Place("p.yaml"))

        assert [] == check_source(document)
        assert ["lm_studio.model", "lm_studio.generation.max_tokens"] == [
            problem.path for problem in check_effective(document)
        ]

    def test_an_escaped_reference_is_no_variable(self):
        """
        ``$${`` is text, which a number cannot be.
        """
        document = node_from({"version": 1, "lm_studio": {"generation": {"max_tokens": "$${N}"}}}, Place("p.yaml"))

        assert ["lm_studio.generation.max_tokens"] == [problem.path for problem in check_source(document)]
