"""What is recorded by hand, checked."""

from __future__ import annotations

import math

from pixel_llm.errors import ValidationError

#: Longer names are cut, so that memory is bounded whatever they are made of.
LONGEST_NAME = 200


def checked_seconds(seconds: float, what: str) -> float:
    """
    *seconds*, if *what* can have taken so long.

    Raises:
        ValidationError: If it can't.
    """
    try:
        is_right = not isinstance(seconds, bool) and isinstance(seconds, int | float) and 0 <= float(seconds) < math.inf
    except OverflowError:  # a whole number that no float reaches
        is_right = False
    if not is_right:
        raise ValidationError(f"{what} must be a number of seconds from 0 on (got {_shown(seconds)})")
    return float(seconds)


def checked_attempts(attempts: int) -> int:
    """
    *attempts*, if a call can have had so many.

    Raises:
        ValidationError: If it can't.
    """
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 0:
        raise ValidationError(f"attempts must be a whole number from 0 on (got {_shown(attempts)})")
    return attempts


def checked_name(name: str, what: str) -> str:
    """
    *name*, cut if it is too long.

    Raises:
        ValidationError: If it is no text.
    """
    if not isinstance(name, str):
        raise ValidationError(f"{what} must be a text (got {_shown(name)})")
    return name[:LONGEST_NAME]


def _shown(value: object) -> str:
    """Python refuses to write whole numbers of thousands of figures."""
    return f"{value:#x}"[:60] if isinstance(value, int) and abs(value) > 10**50 else f"{value!r:.60}"
