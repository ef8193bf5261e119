"""Durations as people write them: a number with a unit."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

#: One or more numbers with units, the largest first: ``30s``, ``500ms``, ``1h30m``.
DURATION_PATTERN = r"^(?=\d)(\d+(\.\d+)?h)?(\d+(\.\d+)?m)?(\d+(\.\d+)?s)?(\d+(\.\d+)?ms)?$"

_DURATION = re.compile(DURATION_PATTERN)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")


def parse_duration(text: str) -> float:
    """
    Read a duration such as ``500ms``, ``30s``, ``2m`` or ``1h30m``.

    Returns:
        Seconds.

    Raises:
        ValueError: If *text* is no duration. The message says what is missing.
    """
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    raise ValueError(duration_complaint(text))


def duration_complaint(value: object) -> str:
    """Say why *value* is no duration, and how to write it."""
    text = str(value)
    if not isinstance(value, bool) and re.fullmatch(r"\d+(\.\d+)?", text):
        return f"{text} has no unit: write {text}s or {text}ms"
    return f"must be a duration such as 500ms, 30s, 2m or 1h30m (got {value!r})"


def format_duration(seconds: float) -> str:
    """Write *seconds* as a policy would: ``0.5`` as ``500ms``, ``90`` as ``1m30s``."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number:g}{unit}" for number, unit in parts if number)
