"""Parts of hand-written pages that are made from the code are what the code says."""

from __future__ import annotations

import shutil

import pytest

from tools.parts import FOLDER, PARTS, Part, stale_pages, write_parts


class TestParts:
    def test_are_up_to_date(self):
        """Each part is what the code makes; `make docs` writes them."""
        assert [] == stale_pages(), "these pages are stale: run `make docs`"

    def test_changed_part_is_stale_and_written_again(self, tmp_path, monkeypatch):
        """A part that was edited is found, and put right; what stands around it is left alone."""
        shutil.copytree(FOLDER / "how-to", tmp_path / "how-to")
        monkeypatch.setattr("tools.parts.FOLDER", tmp_path)
        page = tmp_path / "how-to" / "troubleshooting.md"
        before = page.read_text("utf-8")
        page.write_text(before.replace("| the connection was refused |", "| who knows |"), "utf-8")

        assert ["how-to/troubleshooting.md"] == stale_pages() == write_parts()
        assert before == page.read_text("utf-8")
        assert [] == stale_pages()

    @pytest.mark.parametrize("text", ["# Page\n", "<!-- Written by `make docs` from here. -->\n"])
    def test_page_without_a_place(self, text):
        """A page that has lost one of the two comments is refused, not written over."""
        with pytest.raises(ValueError, match=r"docs/page\.md: there is no place for what is made from here"):
            Part("page.md", "here", str).put_in(text)

    def test_pages_are_different(self):
        """Two parts of one page would overwrite each other."""
        assert len(PARTS) == len({part.page for part in PARTS})
