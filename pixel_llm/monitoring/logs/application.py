"""The application's own logging: handlers that it has put on ``pixel_llm``, or on the root logger, get every record."""

from __future__ import annotations

import logging

from pixel_llm.monitoring.logs.record import Record
from pixel_llm.monitoring.logs.rendering import render_json

#: The logger that every record passes on its way to the root. We put no handlers on it.
LOGGER_NAME = "pixel_llm"

_LOGGER = logging.getLogger(LOGGER_NAME)


class Application:
    """
    Hands records to the application's handlers, in the caller's thread, as its other records come.

    Args:
        is_only_reader: Whether there are no sinks of ours. Without any handlers either, the standard library then
            prints warnings and errors, as those of any other library.
    """

    def __init__(self, *, is_only_reader: bool) -> None:
        self._is_only_reader = is_only_reader
        # Loggers of our own, not registered ones: what the policy lets through is not filtered a second time.
        self._loggers: dict[str, logging.Logger] = {}

    def hand_over(self, name: str, level: int, record: Record) -> None:
        """Give *record* of the logger *name* to the handlers, if there are any."""
        if self._is_only_reader or _LOGGER.hasHandlers():
            logger = self._loggers.get(name) or self._loggers.setdefault(name, _logger(name))
            logger.handle(logging.LogRecord(logger.name, level, "", 0, render_json(record), None, None))


def is_disabled(level: int) -> bool:
    """True if the application has silenced everyone with ``logging.disable()``."""
    return _LOGGER.manager.disable >= level


def _logger(name: str) -> logging.Logger:
    is_ours = name == LOGGER_NAME or name.startswith(f"{LOGGER_NAME}.")
    logger = logging.Logger(name if is_ours else f"{LOGGER_NAME}.{name}")
    logger.parent = _LOGGER
    return logger
