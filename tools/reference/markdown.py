"""Writing Markdown: wrapped paragraphs, lists, fences, anchors."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

WIDTH = 116


def written_by_make_docs(source: str) -> str:
    """The first line of a page that nobody should edit."""
    return f"<!-- Written by `make docs` from {source}. Do not edit. -->"


def paragraph(text: str, *, indent: str = "", hanging: str | None = None) -> str:
    """*text* on lines of bearable length. Code is never broken."""
    return textwrap.fill(
        _unbreakable(" ".join(text.split())),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_long_words=False,
        break_on_hyphens=False,
    ).replace("\N{NO-BREAK SPACE}", " ")


def bullet(text: str) -> str:
    """A point of a list."""
    return paragraph(text, indent="- ", hanging="  ")


def fence(info: str, text: str) -> str:
    """A fenced block."""
    return f"```{info}\n{text.strip(chr(10))}\n```"


def page(*blocks: str | Iterable[str]) -> str:
    """A page of *blocks*, an empty line between them."""
    flat: list[str] = []
    for block in blocks:
        flat.extend([block] if isinstance(block, str) else block)
    return "\n\n".join(block.strip("\n") for block in flat if block) + "\n"


def anchor(heading: str) -> str:
    """What GitHub and GitLab call the place of *heading*."""
    text = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return text.replace(" ", "-")


def link(heading: str, text: str | None = None) -> str:
    """A link to *heading* of the same page."""
    return f"[{text or heading}](#{anchor(heading)})"


def capital(text: str) -> str:
    """*text* as a sentence begins and ends."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _unbreakable(text: str) -> str:
    return re.sub(r"`[^`]*`", lambda match: match.group().replace(" ", "\N{NO-BREAK SPACE}"), text)
