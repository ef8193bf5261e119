"""
Turning any value into plain data for a record: bounded, a copy, and without what no log should hold.

What is changed later does not change the record. Nothing that a value does, such as a ``__repr__`` that raises or a
list that holds itself, comes out of here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from types import SimpleNamespace
from typing import Any

from pixel_llm.monitoring.logs.redaction import REDACTED, is_redacted, may_hold_secrets, redacted_text

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

CUT = "[cut]"

_AS_THEY_ARE = frozenset({bool, type(None)})
_SHORT = 256
_LISTS: tuple[Any, ...] = (list, tuple, set, frozenset)
_PLAIN = frozenset({int, float, bool, str})


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
        if len(name) > LONGEST_NAME or len(clean) >= MOST_ITEMS:
            break
        if is_redacted(name, kind, content):
            clean[name] = REDACTED
        elif (
            ((kind is int or kind is float) and -(2**63) <= value < 2**63)
            or (kind is str and len(value) < _SHORT and not may_hold_secrets(value))
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
    # By its type: what a value says of its class may be a lie, or raise.
    return _Cleaner(content=True).text(value if issubclass(type(value), str) else _shown(value))


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
            said = str.__str__(key) if isinstance(key, str) else _shown(key)
            name = self.text(said, LONGEST_NAME)
            child = value[key]
            clean[name] = REDACTED if _is_redacted(said, child, self._content) else self.clean(child, depth + 1)
        return clean

    def text(self, text: str, longest: int = LONGEST_TEXT) -> str:
        """*text*, cut where it is too long; pictures in it are told by their size, secrets that show are redacted."""
        whole = str.__str__(text)
        text = whole[: max(0, min(longest, self._room))]
        more = len(whole) - len(text)
        if may_hold_secrets(text):
            text = redacted_text(text)
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
        fields = _fields_of(value)
        if fields is not None:
            return self.clean_map(fields, depth) if depth < DEEPEST else CUT
        for kind in _LISTS:
            if isinstance(value, kind):
                # By the kind's own methods: a class of somebody's may have an iterator without end.
                return self._clean_list(kind.__iter__(value), kind.__len__(value), depth) if depth < DEEPEST else CUT
        shape = getattr(value, "shape", None)
        if shape == () and str(getattr(value, "device", "cpu")) == "cpu" and hasattr(value, "item"):
            return self._scalar(value, depth)
        if shape is not None or hasattr(value, "__array__") or hasattr(value, "tobytes"):
            # Arrays, tensors and pictures: their repr shows pixels.
            size = self.text(str(getattr(value, "size", "") if shape is None else shape), 100)
            return f"<{type(value).__name__} {size}>"
        return self.text(_shown(value))

    def _scalar(self, value: Any, depth: int) -> Any:
        """A number as numpy and torch have it; one that is on a graphics card would have to be waited for."""
        number = value.item()
        return self._clean(number, depth) if type(number) in _PLAIN else self.text(str(number))

    def _clean_list(self, values: Iterator[Any], count: int, depth: int) -> list[Any]:
        clean: list[Any] = []
        for value in islice(values, MOST_ITEMS):
            if self._left <= 0:
                break
            clean.append(self.clean(_pair(value, content=self._content), depth + 1))
        if count > len(clean):
            clean.append(f"[{count - len(clean)} more]")
        return clean


def _pair(value: Any, *, content: bool) -> Any:
    """*value*, an item of a list; without what follows if it is a pair of a name that says so, as headers often are."""
    if type(value) in (tuple, list) and len(value) == 2:
        name, named = value
        if isinstance(name, str) and _is_redacted(str.__str__(name), named, content):
            return (name, REDACTED)
    return value


def _is_redacted(name: str, value: Any, content: bool) -> bool:
    # What a name means, its end says; nobody looks through one without end.
    return is_redacted(name[-LONGEST_NAME:], type(value), content)


def _fields_of(value: Any) -> Mapping[str, Any] | None:
    """What *value* holds by names, if its ``repr`` would show just that."""
    kind = type(value)
    if dataclasses.is_dataclass(kind) and _is_generated(kind.__repr__):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.repr}
    if kind is SimpleNamespace:
        return dict(vars(value))
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return dict(zip(kind._fields, tuple.__iter__(value), strict=False))
    return None


@dataclasses.dataclass
class _Plain:
    """Has the ``__repr__`` that dataclasses write."""


def _is_generated(method: Any) -> bool:
    """True for the ``__repr__`` of a dataclass, unless it was written by hand: that is heeded."""
    return getattr(method, "__code__", None) is _Plain.__repr__.__code__


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
