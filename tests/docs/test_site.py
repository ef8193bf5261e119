"""The site's contents are those of the index page, and the page on the Python API has every public name."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pixel_llm

DOCS = Path(__file__).parents[2] / "docs"


def contents(page: str) -> str:
    """What docs/conf.py adds to a *page*."""
    spec = importlib.util.spec_from_file_location("conf", DOCS / "conf.py")
    conf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conf)
    text = (DOCS / f"{page}.md").read_text("utf-8")
    source = [text]
    conf.add_contents(None, page, source)
    return source[0].removeprefix(text)


class TestContents:
    def test_have_every_page_once_in_the_four_groups(self):
        added = contents("index")
        pages = {str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md")}
        listed = re.findall(r"^[\w-]+/[\w/-]+$", added, re.MULTILINE)

        assert ["Tutorials", "How-to guides", "Reference", "Explanation"] == re.findall(r":caption: (.+)", added)
        assert {page for page in pages if page != "index" and not page.startswith("reference/rules/")} == set(listed)
        assert len(listed) == len(set(listed))

    def test_have_the_rules_below_their_own_page(self):
        assert "rules/*" in contents("reference/rules")
        assert "" == contents("reference/policy")


class TestAPI:
    def test_has_every_public_name(self):
        text = (DOCS / "reference/api.md").read_text("utf-8")

        assert set(pixel_llm.__all__) == set(
            re.findall(r"^\.\. auto(?:class|function):: pixel_llm\.(\w+)$", text, re.MULTILINE)
        )
