"""docs/how-to/opentelemetry.md names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pixel_llm.monitoring.exposition.families import DURATION, FAMILIES, POLICY_FAMILIES
from pixel_llm.opentelemetry import names
from pixel_llm.opentelemetry.instruments import NAMES

PAGE = (Path(__file__).parents[2] / "docs/how-to/opentelemetry.md").read_text("utf-8")

ATTRIBUTES = [value for name, value in vars(names).items() if name.isupper() and name not in ("SCHEMA_URL", "SCOPE")]


def test_instruments():
    """
    The table of the metrics has every instrument, with its kind and its unit, in the order of the families.
    """
    rows = re.findall(r"^\| `(pixel_llm\.[\w.]+)` \| (counter|gauge) \| (?:`(.+)`)? ?\|$", PAGE, re.MULTILINE)
    families = [family for family in (*POLICY_FAMILIES, *FAMILIES) if family is not DURATION]

    assert [(NAMES[family.name][0], family.kind.value, NAMES[family.name][1]) for family in families] == rows


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_attributes(attribute):
    """
    Every attribute is on the page.
    """
    room, _, name = attribute.rpartition(".")

    assert f"`{attribute}`" in PAGE or (f"`.{name}`" in PAGE and f"`{room}." in PAGE)
