"""The application's own logging: handlers that it has put on ``pixel_llm``, or on the root logger, get the records."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from types import FrameType

from pixel_llm.monitoring.logs.record import Record, note
from pixel_llm.monitoring.logs.rendering import render_json

#: The logger that every record passes on its way to the root. We put no handlers on it.
LOGGER_NAME = "pixel_llm"

_LOGGER = logging.getLogger(LOGGER_NAME)

#: No place in these is where a record comes from.
_OURS = ("pixel_llm.monitoring.", "pixel_llm.events.")


class Application:
    """
    Hands records to the application's handlers, in the caller's thread, as its other records come.

    Levels of the standard library's loggers, and ``logging.disable()``, decide what handlers get, as with any library.
    ``disabled`` does not: a ``dictConfig`` that disables the loggers that are there does not mean these. A record that
    a handler itself writes is handed to none. Safe for concurrent use.

    Args:
        is_only_reader: Whether there are no outputs of ours. Without any handlers either, the standard library then
            prints warnings and errors, as those of any other library.
    """

    def __init__(self, *, is_only_reader: bool) -> None:
        self._is_only_reader = is_only_reader
        self._is_reported = False
        self._handing = threading.local()

    def takes(self, name: str, level: int) -> bool:
        """True if somebody gets records of the logger *name* at this *level*."""
        logger = _nearest(_full(name))
        return (
            level >= logger.getEffectiveLevel()
            and _LOGGER.manager.disable < level
            and (self._is_only_reader or logger.hasHandlers())
            and not getattr(self._handing, "is_busy", False)
        )

    def hand_over(self, name: str, level: int, text: str) -> Record | None:
        """
        Give a record of the logger *name*, rendered as *text*, to the handlers; none of them can make this raise.

        Returns:
            What our own outputs shall tell of a handler that raised, the first time that one does.
        """
        self._handing.is_busy = True
        try:
            name = _full(name)
            logger = _nearest(name)
            file, line, function = _place()
            record = logger.makeRecord(name, level, file, line, text, (), None, function)
            if logger.name != name or logger.filter(record):
                logger.callHandlers(record)
        except Exception as error:  # noqa: BLE001 - whatever a handler does, the call goes on
            return self._report(error)
        finally:
            self._handing.is_busy = False
        return None

    def _report(self, error: Exception) -> Record | None:
        if self._is_reported:
            return None
        self._is_reported = True
        told = note("handler_failed", error=error)
        if self._is_only_reader and logging.lastResort is not None:
            # Not through the handlers: they are what has failed.
            with contextlib.suppress(Exception):
                logging.lastResort.handle(logging.makeLogRecord({"name": LOGGER_NAME, "msg": render_json(told)}))
        return told


def _full(name: str) -> str:
    is_ours = name == LOGGER_NAME or name.startswith(f"{LOGGER_NAME}.")
    return name if is_ours else f"{LOGGER_NAME}.{name}"


def _nearest(name: str) -> logging.Logger:
    """The logger *name*, else the nearest one above it that there is: names of ours are not registered."""
    known = _LOGGER.manager.loggerDict
    while name != LOGGER_NAME:
        logger = known.get(name)
        if isinstance(logger, logging.Logger):
            return logger
        name = name.rpartition(".")[0]
    return _LOGGER


def _place() -> tuple[str, int, str | None]:
    """File, line and function that have logged, or in which the event came about."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(_OURS):
        frame = frame.f_back
    return ("", 0, None) if frame is None else (frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
