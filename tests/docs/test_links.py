"""The pages lead to each other, and to nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.reference.markdown import anchor

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def without_code(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text("utf-8")))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", without_code(page.read_text("utf-8")), re.MULTILINE)
    return {anchor(heading) for heading in headings}


class TestLinks:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
    def test_lead_somewhere(self, page):
        """Each link to a file leads to one that is there, and each link to a heading to one that the page has."""
        broken = []
        for link in links(page):
            name, _, heading = link.partition("#")
            target = page if not name else (page.parent / name).resolve()
            if "://" in link:
                continue
            if not target.exists() or (heading and heading not in anchors(target)):
                broken.append(link)

        assert [] == broken

    def test_index_names_every_page(self):
        """Every page can be found from the index; rules from their own."""
        listed = {(DOCS / link).resolve() for link in links(DOCS / "index.md") if "://" not in link}
        pages = {page for page in DOCS.rglob("*.md") if page.parent.name != "rules"} - {DOCS / "index.md"}

        assert set() == pages - listed
