"""Watching the permits of half-open breakers from outside."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any
from unittest import mock

from pixel_llm.resilience import CircuitBreaker

_current: Trials | None = None


class Trials:
    """The trial permits that the breakers of one play have given out."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._out: dict[tuple[int, int], list[float]] = {}

    def taken(self, breaker: Any, permit: int) -> None:
        """A trial begins."""
        now, config = breaker._clock.monotonic(), breaker.config
        out = self._out.setdefault((id(breaker), permit), [])
        out.append(now)
        patience = getattr(config, "half_open_max_wait", None)
        under_way = len(out) if patience is None else sum(now - began < patience for began in out)
        if under_way > config.half_open_max_calls:
            self.problems.append(f"{under_way} trial calls at once, though {config.half_open_max_calls} is the most")

    def settled(self, breaker: Any, permit: int | None) -> None:
        """A trial has ended, if it was one."""
        out = self._out.get((id(breaker), permit if permit is not None else -1))
        if out:
            out.pop(0)

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
        before = _closed(self)
        permit = acquire(self)
        if _current is not None and permit not in (before, _closed(self)):
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


def _closed(breaker: Any) -> int:
    return int(breaker.closed_period if hasattr(breaker, "closed_period") else breaker._closed_period)
