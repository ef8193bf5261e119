"""Values in messages."""

from __future__ import annotations

import json
from typing import Any


def show(value: Any) -> str:
    """A value as the file would have it, short enough for a message."""
    if isinstance(value, dict):
        text = f"a mapping with {', '.join(map(repr, value))}" if value else "an empty mapping"
    elif isinstance(value, list):
        text = "a list" if value else "an empty list"
    else:  # an override given in code can hold what no file can
        text = json.dumps(value) if value is None or isinstance(value, bool | int | float) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def count(number: int, noun: str) -> str:
    """``1 attempt``, ``2 attempts``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
