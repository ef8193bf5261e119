"""The logger that programs call."""

from __future__ import annotations

import logging
from typing import Any

from pixel_llm.errors import PixelLMError, classify_error
from pixel_llm.monitoring.logs.cleaning import clean_fields, clean_text
from pixel_llm.monitoring.logs.context import own_fields
from pixel_llm.monitoring.logs.levels import NUMBERS, as_level
from pixel_llm.monitoring.logs.log import PATIENCE, Log
from pixel_llm.monitoring.logs.record import ExcInfo, find_error, new_record
from pixel_llm.policy import LogLevel
from pixel_llm.request import current_request_id


class Outlet:
    """Where loggers write: a log, in whose place another one may be put, as when a policy is loaded again."""

    __slots__ = ("log",)

    def __init__(self, log: Log) -> None:
        self.log = log


class _Own:
    """What a logger and those bound to more context share: a level in place of the log's."""

    __slots__ = ("level",)

    def __init__(self) -> None:
        self.level: int | None = None


class StructuredLogger:
    """
    Writes records: one JSON object a line. Safe for concurrent use.

    ::

        log = get_logger("shop")
        log.info("order placed", order=17, total=3.5)
        log.error("payment failed", exc_info=error, order=17)

    A record has ``timestamp`` (ISO 8601, UTC), ``level``, ``message``, ``context`` (the logger, the request id, what
    :func:`set_context` and, over it, :meth:`bind` say), ``error_code``, ``exception_type``, ``stack_trace`` and
    ``extra``, the keyword arguments. Values are taken down, bounded and free of secrets, before the call returns. No
    call raises or waits for a disk because of what it logs.

    Args:
        name: The logger's name. The policy's ``logging.levels`` may have a level for it.
        log: Where it writes.
    """

    __slots__ = ("_bound", "_name", "_outlet", "_own", "_shown_name")

    def __init__(self, name: str, log: Log | Outlet) -> None:
        self._name = name
        self._outlet = log if isinstance(log, Outlet) else Outlet(log)
        self._own = _Own()
        self._shown_name = clean_text(name)
        self._bound: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """The logger's name."""
        return self._name

    @property
    def dropped(self) -> int:
        """How many records its log has dropped because too many were waiting."""
        return self._outlet.log.dropped

    @property
    def lost(self) -> int:
        """How many records file or console could not take, as on a full disk; one that both missed counts twice."""
        return self._outlet.log.lost

    def bind(self, **context: Any) -> StructuredLogger:
        """A logger with *context* in all its records, over what contexts say; it follows this one's level."""
        bound = StructuredLogger(self._name, self._outlet)
        bound._own = self._own
        bound._bound = {**self._bound, **clean_fields(context, content=self._outlet.log.writes_content)}
        return bound

    def debug(self, message: str, /, *, error_code: str | None = None, exc_info: ExcInfo = None, **extra: Any) -> None:
        """What only matters while somebody looks for a fault."""
        if self._wants(logging.DEBUG):
            self._write(logging.DEBUG, "debug", message, error_code, exc_info, extra)

    def info(self, message: str, /, *, error_code: str | None = None, exc_info: ExcInfo = None, **extra: Any) -> None:
        """What went as it should, and is worth knowing."""
        if self._wants(logging.INFO):
            self._write(logging.INFO, "info", message, error_code, exc_info, extra)

    def warning(
        self, message: str, /, *, error_code: str | None = None, exc_info: ExcInfo = None, **extra: Any
    ) -> None:
        """What went wrong, and was dealt with."""
        if self._wants(logging.WARNING):
            self._write(logging.WARNING, "warning", message, error_code, exc_info, extra)

    def error(self, message: str, /, *, error_code: str | None = None, exc_info: ExcInfo = None, **extra: Any) -> None:
        """What failed."""
        if self._wants(logging.ERROR):
            self._write(logging.ERROR, "error", message, error_code, exc_info, extra)

    def critical(
        self, message: str, /, *, error_code: str | None = None, exc_info: ExcInfo = None, **extra: Any
    ) -> None:
        """What keeps the program from its work."""
        if self._wants(logging.CRITICAL):
            self._write(logging.CRITICAL, "critical", message, error_code, exc_info, extra)

    def exception(
        self, message: str, /, *, error_code: str | None = None, exc_info: ExcInfo = True, **extra: Any
    ) -> None:
        """:meth:`error` inside an ``except``: with the exception that is being handled."""
        if self._wants(logging.ERROR):
            self._write(logging.ERROR, "error", message, error_code, exc_info, extra)

    def log(
        self,
        level: LogLevel | str | int,
        message: str,
        /,
        *,
        error_code: str | None = None,
        exc_info: ExcInfo = None,
        **extra: Any,
    ) -> None:
        """
        A record of a *level* that is known only now.

        Raises:
            ValidationError: If there is no such level.
        """
        level = as_level(level)
        if self._wants(NUMBERS[level]):
            self._write(NUMBERS[level], level.value.lower(), message, error_code, exc_info, extra)

    def is_enabled_for(self, level: LogLevel | str | int) -> bool:
        """True if records of *level* are written, for those that cost something to make."""
        return self._wants(NUMBERS[as_level(level)])

    def change_level(self, level: LogLevel | str | int | None) -> None:
        """
        From now on write records of *level* and above; with None, those that the policy says.

        Args:
            level: Its name, or the standard library's number, such as ``logging.DEBUG``. What the program's own
                handlers get, the levels of the standard library's loggers decide as well.

        Raises:
            ValidationError: If there is no such level.
        """
        self._own.level = None if level is None else NUMBERS[as_level(level)]

    def flush(self, timeout: float = PATIENCE) -> bool:
        """Wait, up to *timeout* seconds, until all records of its log are written so far; see :meth:`Log.flush`."""
        return self._outlet.log.flush(timeout)

    def _wants(self, level: int) -> bool:
        return self._outlet.log.wants(self._name, level, self._own.level)

    def _write(
        self,
        level: int,
        level_name: str,
        message: str,
        error_code: str | None,
        exc_info: ExcInfo,
        extra: dict[str, Any],
    ) -> None:
        log = self._outlet.log
        error = None if exc_info is None else find_error(exc_info)
        request_id = current_request_id()
        if error is not None:
            error_code = error_code or _code_of(error)
            request_id = request_id or getattr(error, "request_id", None)
        context = {"logger": self._shown_name, **own_fields()}
        if request_id is not None:
            context["request_id"] = request_id
        context |= self._bound
        context["logger"] = self._shown_name  # whatever else says so
        message = clean_text(message)
        record = new_record(
            level_name,
            message,
            context=context,
            extra=clean_fields(extra, content=log.writes_content) if extra else extra,
            error_code=None if error_code is None else clean_text(error_code),
            error=error,
        )
        key = (level, message, self._name, record["error_code"], record["exception_type"])
        log.write(self._name, level, record, key)

    def __repr__(self) -> str:
        return f"<StructuredLogger {self._name!r}>"


def _code_of(error: BaseException) -> str | None:
    if isinstance(error, PixelLMError):
        return error.error_code
    return classify_error(error).error_code if isinstance(error, Exception) else None
