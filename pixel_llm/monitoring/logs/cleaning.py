"""
Turning any value into plain data for a record: bounded, a copy, and without what no log should hold.

What is changed later does not change the record. Nothing that a value does, such as a ``__repr__`` that raises or a
list that holds itself, comes out of here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

#: No text of a record is longer, in characters.
LONGEST_TEXT = 8 * 1024
#: No name of a field is longer.
LONGEST_NAME = 200
#: So deep may maps and lists lie in each other.
DEEPEST = 6
#: So many values of a map or a list are kept.
MOST_ITEMS = 100
#: So many values, and characters in them, one call to :func:`clean_fields` keeps in all.
MOST_VALUES = 1000
MOST_TEXT = 64 * 1024
#: Whole numbers of more bits are told by their size: few readers of JSON take them.
_MOST_BITS = 256

REDACTED = "[redacted]"
CUT = "[cut]"

# Names of fields whose values are never written down …
_SECRET = re.compile(
    r"(^|[_.-])((api|access|private|secret)[_-]?key|authorization|bearer|cookies?|credentials?|headers?|"
    r"passwords?|passwd|secrets?|token)$",
    re.IGNORECASE,
)
# … and of those that hold what people ask and get, unless they only count it.
_CONTENT = re.compile(
    r"(^|[_.-])(prompts?|captions?|images?|pictures?|photos?|pixels|base64|messages|completion)$", re.IGNORECASE
)
_DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(;[\w=-]+)*,[A-Za-z0-9+/=_%-]{16,}")

_AS_THEY_ARE = frozenset({bool, type(None)})
_SHORT = 256
_LISTS: tuple[Any, ...] = (list, tuple, set, frozenset)
_NUMBERS = frozenset({int, float, bool})


def clean_fields(fields: Mapping[str, Any], *, content: bool = False) -> dict[str, Any]:
    """
    *fields* as plain data, those with the names of secrets redacted.

    Args:
        fields: By name.
        content: Whether prompts and captions are let through.
    """
    # Most fields are short texts and numbers, which are taken as they are: the caller waits for this.
    clean: dict[str, Any] = {}
    for name, value in fields.items():
        kind = type(value)
        is_number = kind is int or kind is float
        if len(name) > LONGEST_NAME or len(clean) >= MOST_ITEMS:
            break
        if is_redacted(name, is_number, content):
            clean[name] = value if kind in _AS_THEY_ARE else REDACTED
        elif (
            (is_number and -(2**63) <= value < 2**63)
            or (kind is str and len(value) < _SHORT and "data:" not in value)
            or kind in _AS_THEY_ARE
        ):
            clean[name] = value
        else:
            break
    if len(clean) == len(fields):
        return clean
    return _Cleaner(content=content).clean_map(fields, 0)


def clean_text(value: Any) -> str:
    """*value* as a text that is not too long."""
    return _Cleaner(content=True).text(value if isinstance(value, str) else _shown(value))


@lru_cache(4096)
def is_redacted(name: str, is_number: bool, content: bool) -> bool:
    """True if the value of a field of this *name* must not be written down. Numbers only count prompts and pictures."""
    return _SECRET.search(name) is not None or not (content or is_number or _CONTENT.search(name) is None)


class _Cleaner:
    """Cleans the values of one record. *left* and *room* are how many values, and characters, it may still have."""

    def __init__(self, *, content: bool) -> None:
        self._content = content
        self._left = MOST_VALUES
        self._room = MOST_TEXT

    def clean(self, value: Any, depth: int) -> Any:
        """*value*, which lies *depth* maps and lists deep, as plain data."""
        self._left -= 1
        if self._left < 0:
            return CUT
        if value is None or value is True or value is False:
            return value
        try:
            return self._clean(value, depth)
        except Exception as error:  # noqa: BLE001 - whatever a value does, the record is written
            return f"<{type(value).__name__} that raised {type(error).__name__}>"

    def clean_map(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        """The fields of *value* by names that are texts."""
        clean: dict[str, Any] = {}
        for key in value:
            if len(clean) >= MOST_ITEMS or self._left <= 0:
                clean["…"] = f"[{len(value) - len(clean)} more]"
                break
            name = self.text(key if isinstance(key, str) else _shown(key), LONGEST_NAME)
            child = value[key]
            redacted = child is not None and is_redacted(name, type(child) in _NUMBERS, self._content)
            clean[name] = REDACTED if redacted else self.clean(child, depth + 1)
        return clean

    def text(self, text: str, longest: int = LONGEST_TEXT) -> str:
        """*text*, cut where it is too long; pictures in it are told by their size."""
        whole = str.__str__(text)
        text = whole[: max(0, min(longest, self._room))]
        more = len(whole) - len(text)
        if "data:" in text:
            text = _DATA_URI.sub(_size_of_data, text)
        if more:
            text = f"{text}…[{more} more characters]"
        self._room -= len(text)
        return text

    def _clean(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, int):
            number = int(value)
            return number if number.bit_length() <= _MOST_BITS else f"<int of {number.bit_length()} bits>"
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else str(float(value))
        if isinstance(value, bytes | bytearray | memoryview):
            return f"<{memoryview(value).nbytes} bytes>"
        if isinstance(value, BaseException):
            return self.text(_shown_error(value))
        if isinstance(value, Mapping):
            return self.clean_map(value, depth) if depth < DEEPEST else CUT
        for kind in _LISTS:
            if isinstance(value, kind):
                # By the kind's own methods: a class of somebody's may have an iterator without end.
                return self._clean_list(kind.__iter__(value), kind.__len__(value), depth) if depth < DEEPEST else CUT
        shape = getattr(value, "shape", None)
        if shape is not None or hasattr(value, "__array__") or hasattr(value, "tobytes"):
            # Arrays, tensors and pictures: their repr shows pixels.
            size = self.text(str(getattr(value, "size", "") if shape is None else shape), 100)
            return f"<{type(value).__name__} {size}>"
        return self.text(_shown(value))

    def _clean_list(self, values: Iterator[Any], count: int, depth: int) -> list[Any]:
        clean: list[Any] = []
        for value in islice(values, MOST_ITEMS):
            if self._left <= 0:
                break
            clean.append(self.clean(value, depth + 1))
        if count > len(clean):
            clean.append(f"[{count - len(clean)} more]")
        return clean


def _size_of_data(match: re.Match[str]) -> str:
    return f"data:{match.group(1) or ''},<{len(match.group())} characters>"


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - the same
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def _shown_error(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - the same
        return f"{type(error).__name__}: <its text can't be had>"
