"""The states of a circuit breaker, and telling of their changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import StrEnum

from pixel_llm.errors import ErrorCode


class CircuitState(StrEnum):
    """CLOSED lets calls through, OPEN refuses them, HALF_OPEN lets a few trial calls through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


#: Called after each change with (old state, new state, failures, code of the last failure).
OnChange = Callable[[CircuitState, CircuitState, int, ErrorCode | None], None]


class Changes:
    """
    The changes that were not told yet. They are told one at a time and in order, whichever thread made them.

    Args:
        tell: Takes a change. No lock is held while it runs.
    """

    __slots__ = ("_lock", "_tell", "_telling", "_untold")

    def __init__(self, tell: OnChange) -> None:
        self._tell = tell
        self._untold: list[tuple[CircuitState, CircuitState, int, ErrorCode | None]] = []
        self._telling = False
        self._lock = threading.Lock()

    def add(self, old: CircuitState, new: CircuitState, failures: int, code: ErrorCode | None) -> None:
        """Take note of a change."""
        self._untold.append((old, new, failures, code))

    def tell(self) -> None:
        """Tell what nobody has told yet; who tells already tells these as well."""
        if not self._untold:
            return
        with self._lock:
            if self._telling:
                return
            self._telling = True
        try:
            while change := self._next():
                self._tell(*change)
        except BaseException:
            self._telling = False
            raise

    def _next(self) -> tuple[CircuitState, CircuitState, int, ErrorCode | None] | None:
        """The oldest change that was not told; None, and nobody tells any more, if there is none."""
        with self._lock:
            if self._untold:
                return self._untold.pop(0)
            self._telling = False
            return None
