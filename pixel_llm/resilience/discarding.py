"""What a function returned that should have been plain: a coroutine that nobody will await."""

from __future__ import annotations

from types import CoroutineType
from typing import Any


def discard(value: Any) -> None:
    """Close *value* if it is a coroutine, so that Python does not complain of one that was never awaited."""
    if isinstance(value, CoroutineType):
        value.close()
