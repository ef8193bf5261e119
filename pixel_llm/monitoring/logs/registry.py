"""Loggers by name. They write where the active policies say; without any, to the application's handlers alone."""

from __future__ import annotations

import logging

from pixel_llm.errors import ValidationError
from pixel_llm.events.trouble import tell_trouble_to
from pixel_llm.monitoring.logs.application import LOGGER_NAME
from pixel_llm.monitoring.logs.cleaning import clean_text
from pixel_llm.monitoring.logs.context import current_context
from pixel_llm.monitoring.logs.log import Log
from pixel_llm.monitoring.logs.logger import Outlet, StructuredLogger
from pixel_llm.monitoring.logs.record import new_record
from pixel_llm.policy import LoggingConfig

_WITHOUT_POLICY = Log(LoggingConfig())
_outlet = Outlet(_WITHOUT_POLICY)
_loggers: dict[str, StructuredLogger] = {}


def get_logger(name: str) -> StructuredLogger:
    """
    The logger of this *name*; the same one every time.

    It writes where the `logging` section of the active policies says, from the moment they are loaded, and wherever
    others say that become active later.

    Raises:
        ValidationError: If *name* is no text.
    """
    if not isinstance(name, str) or not name:
        raise ValidationError(f'a logger is named by a text such as "shop" (got {name!r})')
    # setdefault() is atomic, so that two threads get the same one.
    return _loggers.get(name) or _loggers.setdefault(name, StructuredLogger(name, _outlet))


def get_default_logger() -> StructuredLogger:
    """The logger named ``pixel_llm``, for programs that need only one."""
    return get_logger(LOGGER_NAME)


def write_to(log: Log | None) -> None:
    """Have the loggers write to *log*; with None to the application's handlers alone."""
    _outlet.log = _WITHOUT_POLICY if log is None else log


def _tell_trouble(level: int, text: str, error: BaseException | None) -> bool:
    log = _outlet.log
    if level < log.levels.of(LOGGER_NAME):
        return False
    text = clean_text(text)
    context = {**current_context(), "logger": LOGGER_NAME}
    record = new_record(logging.getLevelName(level).lower(), text, context=context, extra={}, error=error)
    log.write(LOGGER_NAME, level, record, (level, text, LOGGER_NAME, record["exception_type"]), to_application=False)
    return log.has_console


tell_trouble_to(_tell_trouble)
