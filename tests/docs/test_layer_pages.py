"""Each layer has its page, with the same headings on all, and defaults that are true."""

import dataclasses
import re
from pathlib import Path

import pytest

from pixel_llm.policy import TargetPolicy
from pixel_llm.policy.kinds import TextOr
from pixel_llm.policy.settings import Section

FOLDER = Path(__file__).parents[2] / "docs" / "reference" / "layers"
HEADINGS = ["What for", "Usage", "Settings", "Events", "Diagram", "Mistakes to avoid"]

#: Settings of a target that are no layers.
NO_LAYERS = {"idempotent"}
LAYERS = [field.name for field in dataclasses.fields(TargetPolicy) if field.name not in NO_LAYERS]


def page(name):
    return (FOLDER / f"{name}.md").read_text("utf-8")


@pytest.mark.parametrize("name", [*LAYERS, "streams"])
class TestPages:
    def test_has_its_headings(self, name):
        """
        What for, usage, settings, events, diagram, mistakes: in this order, and nothing else on that level.
        """
        text = re.sub(r"```.*?```", "", page(name), flags=re.S)

        assert name == re.search(r"^# (.+)$", text, re.M)[1]
        assert HEADINGS == re.findall(r"^## (.+)$", text, re.M)

    def test_has_something_below_each(self, name):
        """
        No heading stands alone: there is a diagram under Diagram, a sample under Usage.
        """
        parts = re.split(r"^## .+$", page(name), flags=re.M)[1:]

        assert all(len(part.split()) > 10 for part in parts)
        assert "```" in parts[1]
        assert "```" in parts[4]

    def test_is_in_the_index(self, name):
        """
        Whoever reads the index finds it.
        """
        index = (FOLDER.parents[1] / "index.md").read_text("utf-8")

        assert f"(reference/layers/{name}.md)" in index


def section_of(name):
    kind = {field.name: field for field in dataclasses.fields(TargetPolicy)}[name].metadata["setting"].kind
    return kind.long if isinstance(kind, TextOr) else kind


@pytest.mark.parametrize("name", [name for name in LAYERS if isinstance(section_of(name), Section)])
def test_names_every_setting(name):
    """
    Every setting of the section stands in the table, and the table has no other.
    """
    settings = {setting for setting in section_of(name).settings() if setting != "template"}
    table = page(name).split("## Settings")[1].split("## Events")[0]
    named = {row.split(".")[0] for row in re.findall(r"^\| `([a-z_.]+)` \|", table, re.M)}

    assert settings <= named
