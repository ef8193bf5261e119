"""
A log record: what is taken down at the call, as plain data.

Nothing in it can change later. What costs time, such as the lines of a stack trace and the JSON, is left to the thread
that writes.
"""

from __future__ import annotations

import sys
import time
import traceback
from types import TracebackType
from typing import Any

from pixel_llm.monitoring.logs.redaction import may_hold_secrets, redacted_text

#: The fields of a record, in the order in which they are written.
FIELDS = (
    "timestamp",
    "level",
    "message",
    "context",
    "error_code",
    "exception_type",
    "stack_trace",
    "extra",
)

#: A record: the fields above. Its timestamp is seconds since the epoch, its stack trace not yet a text.
Record = dict[str, Any]

#: So many frames of a stack, and errors behind an error, are told.
_MOST_FRAMES = 50
#: No stack trace is longer, in characters; its end says most.
_LONGEST_TRACE = 16 * 1024

#: What may be given as an exception: itself, what ``sys.exc_info()`` gives, or True for the one being handled.
ExcInfo = bool | BaseException | tuple[type[BaseException], BaseException, TracebackType | None] | None


def new_record(
    level: str,
    message: str,
    *,
    context: dict[str, Any],
    extra: dict[str, Any],
    error_code: str | None = None,
    error: BaseException | None = None,
) -> Record:
    """The record of something that has just happened; *context* and *extra* are plain data already."""
    return {
        "timestamp": time.time(),
        "level": level,
        "message": message,
        "context": context,
        "error_code": error_code,
        "exception_type": None if error is None else type_of(error),
        "stack_trace": None if error is None else take_trace(error),
        "extra": extra,
    }


def note(message: str, error: BaseException | None = None, **extra: Any) -> Record:
    """A record of the log about itself."""
    return new_record("warning", message, context={"logger": "pixel_llm.logs"}, extra=extra, error=error)


def find_error(exc_info: ExcInfo | tuple[None, None, None]) -> BaseException | None:
    """The exception that *exc_info* stands for."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1]
    return sys.exception() if exc_info else None


def type_of(error: BaseException) -> str:
    """The name of the class of *error*, with its module unless it is built in."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def take_trace(error: BaseException) -> traceback.TracebackException | str | None:
    """
    What is needed to write the stack trace of *error* later; without lines of code, which are read then.

    Of an error that was never raised it is what the error says, which stands nowhere else.
    """
    try:
        return traceback.TracebackException.from_exception(
            error, limit=-_MOST_FRAMES, lookup_lines=False, capture_locals=False, compact=True
        )
    except Exception as raised:  # noqa: BLE001 - an exception may be anything
        return f"<{type(error).__name__} whose trace raised {type(raised).__name__}>"


def written_trace(trace: traceback.TracebackException | str | None) -> str | None:
    """The stack trace as a text, several lines of it."""
    if not isinstance(trace, traceback.TracebackException):
        return trace
    try:
        text = "".join(trace.format()).rstrip("\n")
    except Exception as raised:  # noqa: BLE001 - the same
        return f"<the trace could not be written: {type(raised).__name__}>"
    if len(text) > _LONGEST_TRACE:
        text = f"[{len(text) - _LONGEST_TRACE} characters cut]…{text[-_LONGEST_TRACE:]}"
    return redacted_text(text) if may_hold_secrets(text) else text
