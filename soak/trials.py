"""Watching from outside what breakers permit, and what they are told."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

from pixel_llm.errors import LimitExceeded
from pixel_llm.resilience import CircuitBreaker, CircuitState

_current: Trials | None = None

#: The attribute of an error that breakers have counted, with how often each did.
_COUNTED = "counted_in_soak"


class Trials:
    """The trial permits that the breakers of one play have given out, and the failures that they have counted."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._out: Counter[tuple[int, int]] = Counter()  # by breaker, and period between two changes
        self._breakers: dict[int, Any] = {}  # what is kept has its number for itself

    def counted(self, error: BaseException) -> int:
        """How often a breaker has counted *error* as a failure, at most."""
        return max(vars(error).get(_COUNTED, Counter()).values(), default=0)

    def left(self) -> Iterator[str]:
        """The trials that have not ended, in words."""
        for (number, permit), out in self._out.items():
            breaker = self._breakers[number]
            if out and breaker.state is CircuitState.HALF_OPEN and breaker._period == permit:
                yield f"{out} trial calls of {breaker.name} have not ended"

    def failed(self, breaker: Any, error: BaseException) -> None:
        """A failure is counted. It is noted in itself: what held it would hold all that its traceback does."""
        self._breakers[id(breaker)] = breaker
        if was_paused_too_long(error):
            self.problems.append("the breaker counts that a consumer paused for too long")
        vars(error).setdefault(_COUNTED, Counter())[id(breaker)] += 1

    def taken(self, breaker: Any, permit: int) -> None:
        """A trial begins."""
        self._breakers[id(breaker)] = breaker
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


def was_paused_too_long(error: BaseException) -> bool:
    """Whether *error* says that a stream was closed since nobody had read it."""
    return isinstance(error, LimitExceeded) and "max_pause" in error.details


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
            if real.__name__ == "record_failure" and args and args[0] is not None:
                _current.failed(self, args[0])
        return real(self, permit, *args, **kwargs)

    return settle
