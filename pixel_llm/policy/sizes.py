"""Amounts of memory as people write them: a whole number with a unit."""

from __future__ import annotations

import re

from pixel_llm.policy.showing import show

_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

#: A number with a binary unit (IEC 80000-13): ``512KiB``, ``64MiB``.
SIZE_PATTERN = r"^[1-9][0-9]{0,8}(B|KiB|MiB|GiB)$"

#: The same, or none at all.
SIZE_OR_ZERO_PATTERN = r"^(0B|[1-9][0-9]{0,8}(B|KiB|MiB|GiB))$"

_SIZE = re.compile(r"([1-9][0-9]{0,8})(B|KiB|MiB|GiB)")


def parse_size(text: str) -> int:
    """
    Read a size such as ``64MiB``.

    Returns:
        Bytes.

    Raises:
        ValueError: If *text* is no size. The message says what is missing.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(size_complaint(text))
    return int(match.group(1)) * _UNITS[match.group(2)]


def size_complaint(value: object) -> str:
    """Say why *value* is no size, and how to write it."""
    if not isinstance(value, bool) and re.fullmatch(r"[1-9][0-9]{0,8}", str(value)):
        return f"{value} has no unit: write {value}MiB or {value}KiB"
    return f"must be a size such as 512KiB, 64MiB or 2GiB (got {show(value)})"


def format_size(count: int) -> str:
    """Write *count* bytes as a policy would, in the largest unit that loses nothing."""
    if count == 0:
        return "0B"
    unit, factor = next((unit, factor) for unit, factor in reversed(_UNITS.items()) if count % factor == 0)
    return f"{count // factor}{unit}"
