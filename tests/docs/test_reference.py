"""The reference pages say what the code says."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from pixel_llm.errors.codes import ERROR_CODES
from pixel_llm.monitoring.exposition.families import FAMILIES
from pixel_llm.monitoring.snapshot.model import TargetSnapshot
from pixel_llm.policy.lint import RULES
from pixel_llm.policy.schema import build_schema
from pixel_llm.policy.sections.document import POLICY
from tools.reference import render_pages, stale_pages
from tools.reference.pages import FOLDER

SCHEMA = build_schema(source=True)


def schema_paths(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of *schema* with its path, as the reference page writes it; the first way to each definition."""
    if (name := schema.get("$ref", "").removeprefix("#/$defs/")) != "":
        yield from schema_paths(SCHEMA["$defs"][name], path)
    for key, child in schema.get("properties", {}).items():
        below = f"{path}.{key}" if path else key
        yield below, child
        yield from schema_paths(child, below)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from schema_paths(schema["additionalProperties"], f"{path}.<name>")
    if "items" in schema:
        yield from schema_paths(schema["items"], f"{path}[]")
    for branch in ("then", "else"):
        if isinstance(schema.get(branch), dict):
            yield from schema_paths(schema[branch], path)


class TestPages:
    def test_are_up_to_date(self):
        """Each page is what the code makes, byte for byte; `make docs` writes them."""
        assert [] == stale_pages(), "these pages of docs/reference/ are stale: run `make docs`"

    def test_changed_page_is_stale(self, tmp_path, monkeypatch):
        """A page that was edited, one that is missing and one that is left over are all found."""
        pages = render_pages()
        (tmp_path / "rules").mkdir()
        for name, text in pages.items():
            (tmp_path / name).write_bytes(text.encode())
        monkeypatch.setattr("tools.reference.pages.FOLDER", tmp_path)
        (tmp_path / "policy.md").write_bytes(pages["policy.md"].encode() + b"\n")
        (tmp_path / "rules.md").unlink()
        (tmp_path / "rules" / "PL999.md").write_text("gone")

        assert ["policy.md", "rules.md", "rules/PL999.md"] == stale_pages()


class TestPolicyPage:
    PAGE = (FOLDER / "policy.md").read_text("utf-8") if (FOLDER / "policy.md").exists() else ""

    def test_has_every_property_of_the_schema(self):
        """Model, schema and page agree: what a schema lets a file say is described, under its whole path."""
        referred = (
            "defaults.",
            "templates.retry.",
            "templates.circuit_breaker.",
            "templates.fallback.",
            "retry_budgets.<",
            "targets.<name>.cache.",
        )
        paths = {path for path, _ in schema_paths(SCHEMA) if not path.startswith(referred)}

        assert [] == sorted(path for path in paths if f"# `{path}`\n" not in self.PAGE)

    def test_has_nothing_else(self):
        """Every heading of a setting is a property of the schema."""
        paths = {path for path, _ in schema_paths(SCHEMA)}
        headings = {line.strip("# `") for line in self.PAGE.splitlines() if line.startswith("#") and "`" in line}

        assert set() == headings - paths

    @pytest.mark.parametrize("name", POLICY.settings())
    def test_links_to_every_section(self, name):
        """The list at the top leads to each section."""
        assert f"- [`{name}`](#{name})\n" in self.PAGE


class TestRulePages:
    def test_every_rule_has_its_page(self):
        """Each rule of the catalogue has a page of its own, and a row that leads to it."""
        pages = render_pages()

        assert {f"rules/{rule.id}.md" for rule in RULES} == {name for name in pages if name.startswith("rules/")}
        assert [] == [rule.id for rule in RULES if f"[{rule.id}](rules/{rule.id}.md)" not in pages["rules.md"]]


class TestErrorCodesPage:
    def test_has_every_code(self):
        """Each code of the table has a section."""
        page = render_pages()["error-codes.md"]

        assert [] == [code for code in ERROR_CODES if f"### {code}\n" not in page]


class TestMetricsPage:
    def test_has_every_metric(self):
        """Each metric of the table has a row."""
        page = render_pages()["metrics.md"]

        assert [] == [family.name for family in FAMILIES if f"| `{family.name}` | {family.kind} |" not in page]

    def test_has_every_field_of_a_target(self):
        """Each key of a target in the JSON snapshot is described."""
        page = render_pages()["metrics.md"]

        assert [] == [field.name for field in dataclasses.fields(TargetSnapshot) if f"- `{field.name}`: " not in page]
