"""Texts and nested data from outside: what can't be seen is taken out, what is too much is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pixel_llm.errors import ErrorCode
from pixel_llm.validation.complaints import Complaints, came

#: No text of a request is longer, in characters: far beyond what a vision model can read at once.
MAX_LENGTH = 100_000
#: Levels of lists and dicts within each other.
MAX_DEPTH = 32
#: Values in all, those inside others included.
MAX_ITEMS = 10_000

# What is not seen, and may carry what a reader would not: a prompt that only the model reads.
_UNSEEN = re.compile(
    "["
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters, but for tab and line breaks
    "\ud800-\udfff"  # halves of surrogate pairs, which no UTF-8 can carry
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # marks that turn the direction of writing
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b"  # without width or ink …
    "\u2060-\u2065\u3164\ufeff\uffa0\ufff9-\ufffb"  # … and these
    "\U000e0000-\U000e007f"  # tags: ASCII that nobody sees
    "]"
)


def sanitize_input(
    value: Any,
    name: str = "input",
    *,
    max_length: int = MAX_LENGTH,
    max_depth: int = MAX_DEPTH,
    max_items: int = MAX_ITEMS,
) -> Any:
    """
    A copy of *value* without what can't be seen. *value* itself is not changed. Safe to call from several threads.

    Out of texts, keys of dicts included, are taken null bytes and other control characters (tab and line breaks stay),
    halves of surrogate pairs, marks that change the direction of writing, tags, and characters without width or ink.
    Joiners and variation selectors stay, since they change what others look like. Numbers, True, False and None stay.
    What is too long, too deep or too much is refused rather than cut: half a prompt asks for something else.

    Args:
        value: A text, number, True, False or None, or lists, tuples and dicts of such, with texts as keys.
        name: What to call it in messages.
        max_length: The most characters of one text, after cleaning.
        max_depth: The most levels of lists, tuples and dicts.
        max_items: The most values in all. What is in there twice counts twice.

    Raises:
        ValidationError: ERR_VAL_INVALID_RANGE, with everything that is wrong.
    """
    cleaner = _Cleaner(max_length, max_depth, max_items)
    cleaned = cleaner.clean(value, name, 0)
    cleaner.found.finish()
    return cleaned


class _Cleaner:
    def __init__(self, max_length: int, max_depth: int, max_items: int) -> None:
        self.found = Complaints()
        self._max_length, self._max_depth, self._max_items = max_length, max_depth, max_items
        self._items = 0
        self._inside: set[int] = set()

    def clean(self, value: Any, field: str, depth: int) -> Any:
        self._items += 1
        if self._items > self._max_items:
            if self._items == self._max_items + 1:
                self.found.add(field, f"must be among at most {self._max_items} values in all (got more)")
            return None
        if isinstance(value, str):
            return self._clean_text(value, field)
        if value is None or isinstance(value, bool | int | float):
            return value
        if not isinstance(value, Mapping | list | tuple):
            self.found.add(field, f"must be a text, a number, a list or a dict (got {came(value)})")
            return None
        if id(value) in self._inside:
            self.found.add(field, f"must not hold itself (got a {type(value).__name__} that does)")
            return None
        if depth >= self._max_depth:
            self.found.add(field, f"must be at most {self._max_depth} levels deep (got more)")
            return None
        self._inside.add(id(value))
        try:
            return self._clean_inside(value, field, depth + 1)
        finally:
            self._inside.discard(id(value))

    def _clean_inside(self, value: Any, field: str, depth: int) -> Any:
        if isinstance(value, Mapping):
            return self._clean_mapping(value, field, depth)
        cleaned = []
        for index, item in enumerate(value):
            cleaned.append(self.clean(item, f"{field}[{index}]", depth))
            if self._items > self._max_items:
                break
        return tuple(cleaned) if isinstance(value, tuple) else cleaned

    def _clean_mapping(self, value: Mapping[Any, Any], field: str, depth: int) -> dict[str, Any]:
        cleaned: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                self.found.add(field, f"must have texts as keys (got {came(key)})")
                continue
            name = self._clean_text(key, f"a key of {field}")
            if name in cleaned:
                self.found.add(field, f"must have each key once (got {came(name)} twice when cleaned)")
            cleaned[name] = self.clean(item, f"{field}.{name[:60]}", depth)
            if self._items > self._max_items:
                break
        return cleaned

    def _clean_text(self, text: str, field: str) -> str:
        # Twice the limit is refused unread: cleaning alone would take its time.
        cleaned = _UNSEEN.sub("", text) if len(text) <= 2 * self._max_length else text
        if len(cleaned) > self._max_length:
            code = ErrorCode.ERR_VAL_INVALID_RANGE
            self.found.add(field, f"must have at most {self._max_length} characters (got {len(cleaned)})", code)
        return cleaned
