"""Events as log records: one JSON object a line, where the policy's `logging` section says."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import sys
import weakref
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

from pixel_llm.events import (
    AbandonedThreadEnded,
    AttemptFailed,
    CallFailed,
    CallQueued,
    CallRecovered,
    CallRefused,
    CallWouldBeRefused,
    ChaosInjected,
    CircuitStateChanged,
    Event,
    FallbackServed,
    FallbackSkipped,
    HedgeSent,
    HedgeSkipped,
    HedgeWon,
    ModelLoaded,
    ModelLoadFailed,
    ModelMismatched,
    PolicyReloaded,
    PolicyReloadFailed,
    RetryScheduled,
    StreamAbandoned,
    StreamBroken,
    ThreadAbandoned,
)
from pixel_llm.policy import LogContent, LoggingConfig

#: How much each event matters to someone who reads the log.
LEVELS: dict[type[Event], str] = {
    AttemptFailed: "warning",
    RetryScheduled: "info",
    CallQueued: "debug",
    CallRecovered: "info",
    CallRefused: "warning",
    CallWouldBeRefused: "info",
    CallFailed: "error",
    CircuitStateChanged: "warning",
    FallbackServed: "warning",
    FallbackSkipped: "debug",
    StreamBroken: "warning",
    StreamAbandoned: "info",
    ThreadAbandoned: "warning",
    AbandonedThreadEnded: "info",
    ChaosInjected: "info",
    HedgeSent: "info",
    HedgeWon: "info",
    HedgeSkipped: "debug",
    ModelMismatched: "warning",
    ModelLoaded: "info",
    ModelLoadFailed: "warning",
    PolicyReloaded: "info",
    PolicyReloadFailed: "error",
}

#: Application-wide logger that every record also passes through on its way to the root.
LOGGER_NAME = "pixel_llm"

# JSON leaves them as they are, and some readers take them for the end of a line.
_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}


class EventLog:
    """
    A listener that writes every event down. Safe for concurrent use.

    A record has ``timestamp`` (ISO 8601, UTC), ``level``, ``message`` (the event's name),
    ``context`` (profile and target), ``error_code`` and ``extra`` (the event's other fields,
    durations in seconds). No handler is added to the root logger or to ``pixel_llm``.

    Args:
        config: Level and sinks.
        profile: The name of the profile, for the context.
    """

    def __init__(self, config: LoggingConfig, *, profile: str) -> None:
        self._profile = profile
        self._writes_content = config.log_content is LogContent.FULL
        # A logger of our own, not a registered one: two policies with different sinks must not
        # write into each other's. What it does not keep to itself it hands to "pixel_llm".
        self._stdlib = logging.Logger(f"{LOGGER_NAME}.events", config.level.value)
        self._stdlib.parent = logging.getLogger(LOGGER_NAME)
        for handler in _build_handlers(config):
            self._stdlib.addHandler(handler)
            weakref.finalize(self, handler.close)
        self._logger = structlog.wrap_logger(
            self._stdlib,
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.EventRenamer("message"),
                _in_order,
                structlog.processors.JSONRenderer(_one_line, default=str),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, config.level.value)),
            cache_logger_on_first_use=True,
        )

    def __call__(self, event: Event) -> None:
        """Write *event* down."""
        fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
        context = {"profile": self._profile, "target": fields.pop("target")}
        code = fields.pop("error_code", None)
        extra = {name: round(value, 6) if isinstance(value, float) else value for name, value in fields.items()}
        log = getattr(self._logger, LEVELS[type(event)])
        log(event.name, context=context, error_code=code, extra=extra)

    def content(self, target: str, **content: str) -> None:
        """Write down what was asked and answered, if the policy says ``log_content: full``."""
        if self._writes_content:
            context = {"profile": self._profile, "target": target}
            self._logger.info("content", context=context, error_code=None, extra=content)

    def close(self) -> None:
        """Close the sinks. Later records go to the application's handlers only."""
        for handler in list(self._stdlib.handlers):
            self._stdlib.removeHandler(handler)
            handler.close()


def _in_order(logger: Any, method: str, record: MutableMapping[str, Any]) -> dict[str, Any]:
    """What a reader looks for first comes first."""
    return {name: record[name] for name in ("timestamp", "level", "message", "context", "error_code", "extra")}


def _one_line(record: Any, **options: Any) -> str:
    line = json.dumps(record, ensure_ascii=False, **options).translate(_LINE_ENDS)
    # A lone surrogate, as in the name of a file that is not UTF-8, becomes JSON's own escape.
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


def _build_handlers(config: LoggingConfig) -> list[logging.Handler]:
    handlers: list[logging.Handler] = []
    if config.file is not None:
        handlers.append(_LogFile(config.file))
    if config.console:
        handlers.append(logging.StreamHandler())
    return handlers


class _LogFile(logging.FileHandler):
    """A log file that never fails a call: trouble with it is reported once, and the calls go on."""

    def __init__(self, file: str) -> None:
        self._reported = False
        self._given = file
        super().__init__(Path(file).expanduser(), encoding="utf-8", delay=True)

    def _open(self) -> Any:
        path = Path(self.baseFilename)
        if path.is_fifo() or path.is_socket():
            # Opening one blocks until somebody reads it, past every deadline.
            raise OSError(errno.EINVAL, "it is no regular file")
        path.parent.mkdir(parents=True, exist_ok=True)
        return super()._open()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError as error:  # the file could not be opened
            self._report(error)

    def close(self) -> None:
        try:
            super().close()
        except OSError as error:  # there is no room for what was still held back
            self._report(error)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        self._report(sys.exception())

    def _report(self, error: BaseException | None) -> None:
        if not self._reported:
            self._reported = True
            reason = getattr(error, "strerror", None) or error
            logging.getLogger(LOGGER_NAME).warning(
                "the log file %s cannot be written: %s; calls go on without it", self._given, reason
            )
