"""Durations as people write them: a number with a unit."""

from __future__ import annotations

import re
from decimal import Decimal

from pixel_llm.policy.showing import show

# Decimal, because in floats 1001 · 0.001 is not 1.001.
_UNITS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}

_FRACTION = r"(\.[0-9]{1,30})?"

#: One or more numbers with units, the largest first: ``30s``, ``500ms``, ``1h30m``. No number has so many
#: digits that waiting for so long would overflow the system's clocks, or so short that it would be nothing.
DURATION_PATTERN = (
    rf"^(?=[0-9])([0-9]{{1,5}}{_FRACTION}h)?([0-9]{{1,7}}{_FRACTION}m)?"
    rf"([0-9]{{1,9}}{_FRACTION}s)?([0-9]{{1,12}}{_FRACTION}ms)?$"
)

_DURATION = re.compile(DURATION_PATTERN)
_TOO_LONG = re.compile(r"([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?")
_PART = re.compile(r"([0-9.]+)(ms|h|m|s)")


def parse_duration(text: str) -> float:
    """
    Read a duration such as ``500ms``, ``30s``, ``2m`` or ``1h30m``.

    Returns:
        Seconds.

    Raises:
        ValueError: If *text* is no duration. The message says what is missing.
    """
    if _DURATION.fullmatch(text):
        return float(sum(Decimal(number) * _UNITS[unit] for number, unit in _PART.findall(text)))
    raise ValueError(duration_complaint(text))


def duration_complaint(value: object) -> str:
    """Say why *value* is no duration, and how to write it."""
    text = str(value)
    if not isinstance(value, bool) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return f"{text} has no unit: write {text}s or {text}ms"
    if text and _TOO_LONG.fullmatch(text):
        return f"must be shorter than 100000h (got {show(value)})"
    return f"must be a duration such as 500ms, 30s, 2m or 1h30m (got {show(value)})"


def format_duration(seconds: float) -> str:
    """Write *seconds* as a policy would: ``0.5`` as ``500ms``, ``90`` as ``1m30s``. Exact: parsing gives them back."""
    rest = Decimal(repr(seconds))
    if rest < 1:
        return f"{_plain(rest * 1000)}ms"
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{_plain(number)}{unit}" for number, unit in parts if number)


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
