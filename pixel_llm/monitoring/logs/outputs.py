"""An output of the log: a sink whose trouble stays its own, counted and told."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from pixel_llm.events.trouble import report_to_application
from pixel_llm.monitoring.logs.record import Record, note


class Sink(Protocol):
    """
    Where records end up. Only one thread at a time uses it.

    Attributes:
        subject: What it is, in words, for the report of its trouble.
    """

    subject: str

    def write(self, records: deque[Record]) -> None:
        """Write *records* down, and take off those that are written; may raise anything."""

    def close(self) -> None:
        """Let go of what is open. Writing opens it again."""

    def forget(self) -> None:
        """Forget what was open in the process that this one was forked from."""


class Output:
    """
    Writes records to one sink, and never raises because of it. Only one thread at a time uses it.

    Its first trouble is reported, to the logger ``pixel_llm`` and to the other outputs. How many records it has lost
    is told in its own next record, as soon as it takes any again.

    Attributes:
        lost: How many records it could not write so far.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._is_reported = False
        self._untold = 0
        self.lost = 0

    @property
    def is_in_trouble(self) -> bool:
        """True from a record that could not be written until another one is."""
        return self._untold > 0

    def write(self, records: Sequence[Record]) -> Record | None:
        """
        Write *records* down.

        Returns:
            What the other outputs shall tell of trouble that has just begun, if it has.
        """
        waiting = deque(records)
        if self._untold:
            waiting.appendleft(note("records_lost", lost=self._untold))
        wanted = len(waiting)
        try:
            self._sink.write(waiting)
        except BaseException as error:
            # In a thread of ours nobody else would catch it, and nothing would be written any more.
            if not isinstance(error, Exception) and threading.current_thread() is threading.main_thread():
                raise
            return self._report(error)
        finally:
            is_untold = bool(self._untold) and len(waiting) == wanted
            missing = len(waiting) - is_untold
            self.lost += missing
            self._untold = missing + (self._untold if is_untold else 0)
        return None

    def close(self) -> None:
        """Close the sink."""
        try:
            self._sink.close()
        except Exception as error:  # noqa: BLE001 - the same
            self._report(error)

    def forget(self) -> None:
        """Begin anew in a forked child: what is missing is the parent's to tell."""
        self.lost = self._untold = 0
        with contextlib.suppress(Exception):
            self._sink.forget()

    def _report(self, error: BaseException) -> Record | None:
        if self._is_reported:
            return None
        self._is_reported = True
        subject, reason = self._sink.subject, _reason(error)
        report_to_application(
            "%s cannot be written: %s; calls go on without it", subject, reason, level=logging.WARNING
        )
        return note("output_failed", output=subject, reason=reason)


def _reason(error: BaseException) -> str:
    try:
        return str(getattr(error, "strerror", None) or error) or type(error).__name__
    except Exception:  # noqa: BLE001 - an exception may be anything
        return type(error).__name__
