"""
What was asked, as far as a server's error may repeat it: cut out of what is quoted of the server.

Errors end in logs, on pages and in tickets, where prompts and pictures have no business.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

#: Stands where something was cut out.
CUT = "[…]"
#: A piece of so many characters that is also in the request was taken from there …
PIECE = 12
#: … as was a whole line of so many …
_SHORTEST = 4
#: … and a word of so many, such as a picture is as base64.
_LONG_WORD = 40

#: Where short texts are what somebody asks. Elsewhere they are settings, which errors must be able to name.
_CONTENT = frozenset({"content", "input", "instructions", "prompt", "query", "system", "text"})
#: Names, which errors must be able to name as well.
_NAMES = frozenset({"id", "model", "name", "role", "type"})
_MOST_LINES = 1000
_WORDS = re.compile(rf"[\w+/=-]{{{_LONG_WORD},}}")
#: Half a piece: every piece has one that begins at a multiple of its length.
_HALF = PIECE // 2


class Asked:
    """
    The texts and pictures of one request. Immutable, safe to share; nothing is read before there is an error.

    Args:
        content: The request's body; None where it is not known.
    """

    def __init__(self, content: bytes | None = None) -> None:
        self._content = content

    def __repr__(self) -> str:
        return "Asked(…)"

    def cut_from(self, text: str) -> str:
        """*text*, one line, without what it repeats of the request: pictures, lines, and pieces of 12 characters."""
        content = self._content
        if not (text and content):
            return text
        text = _WORDS.sub(lambda word: CUT if word[0][:_LONG_WORD].encode() in content else word[0], text)
        text = self._without_pieces(text)
        return text if self._lines is None else self._lines.sub(CUT, text)

    def _without_pieces(self, text: str) -> str:
        low, (texts, halves) = _lower(text), self._pieces
        near = [low[at : at + _HALF] in halves for at in range(len(low) - _HALF + 1)]
        kept, begin, at = [], 0, 0
        while at + PIECE <= len(low):
            if not (any(near[at : at + PIECE - _HALF + 1]) and low[at : at + PIECE] in texts):
                at += 1
                continue
            end = at + PIECE
            while end < len(low) and low[at : end + 1] in texts:
                end += 1
            # A space at its ends stands between it and what the server says.
            left, right = text[at] == " ", text[end - 1] == " "
            kept += [text[begin : at + left], CUT]
            begin, at = end - right, end
        return "".join([*kept, text[begin:]])

    @cached_property
    def _texts(self) -> list[tuple[str, bool]]:
        """All texts of the request, and whether they are content."""
        content = self._content or b""
        try:
            return list(_texts_in(json.loads(content), is_content=False))
        except (ValueError, RecursionError):
            pass
        try:
            return [(content.decode(), False)]
        except ValueError:  # a form with a picture, say
            return []

    @cached_property
    def _pieces(self) -> tuple[str, frozenset[str]]:
        """All texts as a server may write them, and their halves of pieces."""
        # No text that is one line has a NUL in it, so that no piece goes from one text into the next.
        texts = "\0".join(_lower(form) for text, _ in self._texts if len(text) >= PIECE for form in _forms(text))
        return texts, frozenset(texts[at : at + _HALF] for at in range(0, len(texts), _HALF))

    @cached_property
    def _lines(self) -> re.Pattern[str] | None:
        """Finds the lines that are too short to be found as pieces."""
        lines = {one_line(line) for text, is_content in self._texts if is_content for line in text.splitlines()}
        short = sorted((line for line in lines if _SHORTEST <= len(line) < PIECE), key=len, reverse=True)
        found = "|".join(map(re.escape, short[:_MOST_LINES]))
        return re.compile(rf"(?<!\w)(?:{found})(?!\w)", re.IGNORECASE) if found else None


#: Where no request is known.
NOTHING = Asked()


def one_line(text: str) -> str:
    """*text* as one line of printable characters."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _texts_in(value: Any, *, is_content: bool) -> Iterator[tuple[str, bool]]:
    if isinstance(value, str):
        if not value.startswith("data:"):
            yield value, is_content
    elif isinstance(value, list):
        for item in value:
            yield from _texts_in(item, is_content=is_content)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in _NAMES:
                yield from _texts_in(item, is_content=is_content or name in _CONTENT)


def _forms(text: str) -> set[str]:
    """*text*, also as JSON and HTML have it."""
    written = (text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], html.escape(text))
    return {one_line(form) for form in written}


def _lower(text: str) -> str:
    """*text* in small letters, unless there would be more of them, as with a Turkish one."""
    low = text.lower()
    return low if len(low) == len(text) else text
