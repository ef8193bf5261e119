"""The fenced blocks of a page, and what their first line says about them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>\S.*)\n(?P<text>(?:.*\n)*?)(?P=indent)```[ ]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """
    One sample. *language* is the first word after the fence; *words* are the others, without ``title=…``.

    *title* is the file that the sample is; *start* and *end* are where its text stands in the page.
    """

    page: Path
    line: int
    language: str
    words: tuple[str, ...]
    title: str | None
    text: str
    indent: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read_blocks(page: Path) -> list[Block]:
    """Every block of *page* that names a language, in order."""
    text = page.read_text("utf-8")
    return [_block(page, text, match) for match in _FENCE.finditer(text)]


def _block(page: Path, text: str, match: re.Match[str]) -> Block:
    language, *words = match["info"].split()
    titles = [word.removeprefix("title=") for word in words if word.startswith("title=")]
    return Block(
        page=page,
        line=text.count("\n", 0, match.start()) + 1,
        language=language,
        words=tuple(word for word in words if not word.startswith("title=")),
        title=titles[0] if titles else None,
        text=textwrap.dedent(match["text"]),
        indent=match["indent"],
        start=match.start("text"),
        end=match.end("text"),
    )
