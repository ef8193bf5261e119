"""
Parts of hand-written pages that are made from the code: ``python -m tools.parts``, or ``make docs``.

Each stands between two comments of its page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.outages import table_of_outages
from tools.reference.error_codes_page import codes_in_short

FOLDER = Path(__file__).parents[1] / "docs"

_ENDS = "<!-- The end of what `make docs` writes. -->\n"


@dataclass(frozen=True, slots=True)
class Part:
    """What *render* gives, made from *source*, stands on *page*, a name below ``docs/``."""

    page: str
    source: str
    render: Callable[[], str]

    def put_in(self, text: str) -> str:
        """The page's *text* with this part as it must be."""
        begins = f"<!-- Written by `make docs` from {self.source}. -->\n"
        before, found, rest = text.partition(begins)
        _, ended, after = rest.partition(_ENDS)
        if not (found and ended):
            raise ValueError(f"docs/{self.page}: there is no place for what is made from {self.source}")
        return f"{before}{begins}\n{self.render()}\n\n{_ENDS}{after}"


PARTS = (
    Part("how-to/choose-a-profile.md", "tools/outages/", table_of_outages),
    Part("how-to/troubleshooting.md", "pixel_llm/errors/codes.py", codes_in_short),
)


def stale_pages() -> list[str]:
    """The pages with a part that is not what the code says."""
    texts = {part.page: (FOLDER / part.page).read_text("utf-8") for part in PARTS}
    return [part.page for part in PARTS if part.put_in(texts[part.page]) != texts[part.page]]


def write_parts() -> list[str]:
    """Bring the pages up to date. Gives the names of those that changed."""
    stale = stale_pages()
    for part in PARTS:
        if part.page in stale:
            path = FOLDER / part.page
            path.write_text(part.put_in(path.read_text("utf-8")), "utf-8")
    return stale


if __name__ == "__main__":
    for name in write_parts():
        print(f"docs/{name}")
