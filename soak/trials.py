"""Watching the permits of half-open breakers from outside."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

from pixel_llm.resilience import CircuitBreaker

_current: Trials | None = None


class Trials:
    """The trial permits that the breakers of one play have given out."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._out: Counter[tuple[int, int]] = Counter()  # by breaker, and period between two changes

    def taken(self, breaker: Any, permit: int) -> None:
        """A trial begins."""
        out, most = self._out[id(breaker), permit] + 1, breaker.config.half_open_max_calls
        self._out[id(breaker), permit] = out
        if out > most:
            self.problems.append(f"{out} trial calls at once, though {most} is the most")

    def settled(self, breaker: Any, permit: int | None) -> None:
        """A trial has ended, if it was one."""
        if permit is not None and self._out[id(breaker), permit]:
            self._out[id(breaker), permit] -= 1

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Within, breakers tell this."""
        global _current
        _current = self
        try:
            yield
        finally:
            _current = None


@contextlib.contextmanager
def breakers_watched() -> Iterator[None]:
    """Within, breakers tell the :class:`Trials` that is watching."""
    acquire = CircuitBreaker.acquire

    def watched_acquire(self: Any) -> int:
        before = self.closed_period
        permit = acquire(self)
        if _current is not None and permit >= 0 and permit not in (before, self.closed_period):
            _current.taken(self, permit)
        return permit

    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(CircuitBreaker, "acquire", watched_acquire))
        for name in ("record_success", "record_failure", "release"):
            patches.enter_context(mock.patch.object(CircuitBreaker, name, _settling(getattr(CircuitBreaker, name))))
        yield


def _settling(real: Any) -> Any:
    @functools.wraps(real)
    def settle(self: Any, permit: int | None = None, *args: Any, **kwargs: Any) -> Any:
        if _current is not None:
            _current.settled(self, permit)
        return real(self, permit, *args, **kwargs)

    return settle
