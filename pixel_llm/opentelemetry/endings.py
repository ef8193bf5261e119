"""How a call, an attempt or a request has ended, in OpenTelemetry's words. Never in those of an error's text."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from opentelemetry.trace import Span, Status, StatusCode

from pixel_llm.errors import ErrorCode, LimitExceeded
from pixel_llm.monitoring.logs.record import type_of
from pixel_llm.opentelemetry.names import ERROR_TYPE, LEFT
from pixel_llm.resilience.clock import was_ended
from pixel_llm.resilience.error_words import code_of
from pixel_llm.resilience.limits import get_published

#: ``error.type`` of what was ended because its time was up.
TIMEOUT = "timeout"

#: Seconds by which the end of a task's time may come early: event loops end together what ends at nearly one moment.
_MOMENT = 1e-3


def error_type(error: BaseException) -> str:
    """The code of *error*, as events have it; the qualified name of its class where no code describes it."""
    code = code_of(error) if isinstance(error, Exception) else None
    return type_of(error) if code is None else code.value


class Ending:
    """
    How something has ended. Immutable.

    Attributes:
        error_type: What it failed of; None if it did not.
        left: ``closed`` or ``cancelled`` by whoever waited for it, or a stream that its reader ``paused`` for too long,
            none of which is a failure; else None.
    """

    __slots__ = ("error_type", "left")

    def __init__(self, error_type: str | None = None, left: str | None = None) -> None:
        self.error_type = error_type
        self.left = left

    def write(self, span: Span) -> None:
        """Write it on *span*."""
        if self.left is not None:
            span.set_attribute(LEFT, self.left)
        if self.error_type is not None:
            span.set_attribute(ERROR_TYPE, self.error_type)
            span.set_status(Status(StatusCode.ERROR, _description(self.error_type)))


SUCCEEDED = Ending()
CLOSED = Ending(left="closed")
CANCELLED = Ending(left="cancelled")
PAUSED = Ending(left="paused")
OUT_OF_TIME = Ending(TIMEOUT)


def ending_of(error: BaseException | None) -> Ending:
    """How something ended that *error* ended, where nobody has taken its time."""
    if error is None:
        return SUCCEEDED
    if isinstance(error, GeneratorExit):
        return CLOSED
    if isinstance(error, asyncio.CancelledError):
        return CANCELLED
    return Ending(error_type(error))


def ending_of_call(target: str, error: BaseException | None) -> Ending:
    """How a call of *target* ended that *error* ended, where nobody has taken its time."""
    if isinstance(error, LimitExceeded) and error.target == target and "max_pause" in error.details:
        return PAUSED  # a stream of its own, which proves nothing; what goes on with another one's has failed of it
    return ending_of(error)


class TimeLeft:
    """
    The limits of the attempt that the running code is part of, as they will be when it ends.

    A task whose time is up is cancelled, a generator closed, and a worker thread left alone: only the limits tell that
    from a consumer who went away.
    """

    __slots__ = ("_limits", "_thread")

    def __init__(self, thread: int) -> None:
        """*thread* is the one in which the call began."""
        # The list itself, since a stream's limits move with every step, and it may be ended in another context.
        self._limits: list[Any] = get_published()
        self._thread = thread

    def ending_of(self, error: BaseException | None) -> Ending:
        """How an attempt, or a request, ended that *error* ended."""
        ends, _, terms, *_ = self._limits
        if was_ended(terms.clock):  # another attempt has won, so whatever it ends in comes of that
            return CANCELLED
        ending = ending_of(error)
        if isinstance(error, TimeoutError) or (ending.left is None and threading.get_ident() == self._thread):
            return ending
        return OUT_OF_TIME if ends - terms.clock.monotonic() <= _MOMENT else ending


def _description(error_type: str) -> str | None:
    """What an error code means in general; an error's own text may quote what was asked."""
    try:
        return ErrorCode(error_type).info.message
    except ValueError:
        return None
