"""Events as log records, where the policy's `logging` section says."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any

from pixel_llm.errors import classify_error
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
from pixel_llm.monitoring.logs.application import LOGGER_NAME
from pixel_llm.monitoring.logs.cleaning import clean_fields
from pixel_llm.monitoring.logs.context import current_context
from pixel_llm.monitoring.logs.levels import NUMBERS
from pixel_llm.monitoring.logs.log import PATIENCE, Log
from pixel_llm.monitoring.logs.record import new_record, type_of
from pixel_llm.policy import LoggingConfig, LogLevel

#: How much each event matters to someone who reads the log.
LEVELS: dict[type[Event], LogLevel] = {
    AttemptFailed: LogLevel.WARNING,
    RetryScheduled: LogLevel.INFO,
    CallQueued: LogLevel.DEBUG,
    CallRecovered: LogLevel.INFO,
    CallRefused: LogLevel.WARNING,
    CallWouldBeRefused: LogLevel.INFO,
    CallFailed: LogLevel.ERROR,
    CircuitStateChanged: LogLevel.WARNING,
    FallbackServed: LogLevel.WARNING,
    FallbackSkipped: LogLevel.DEBUG,
    StreamBroken: LogLevel.WARNING,
    StreamAbandoned: LogLevel.INFO,
    ThreadAbandoned: LogLevel.WARNING,
    AbandonedThreadEnded: LogLevel.INFO,
    ChaosInjected: LogLevel.INFO,
    HedgeSent: LogLevel.INFO,
    HedgeWon: LogLevel.INFO,
    HedgeSkipped: LogLevel.DEBUG,
    ModelMismatched: LogLevel.WARNING,
    ModelLoaded: LogLevel.INFO,
    ModelLoadFailed: LogLevel.WARNING,
    PolicyReloaded: LogLevel.INFO,
    PolicyReloadFailed: LogLevel.ERROR,
}

#: The name of the logger that the application's handlers see.
_NAME = f"{LOGGER_NAME}.events"

#: Which fields an event has beside its target, by its class.
_FIELDS = {
    kind: tuple(field.name for field in dataclasses.fields(kind) if field.name not in ("target", "error_code"))
    for kind in LEVELS
}

#: Those that must be equal too for two records to say the same. Hardly two errors, reasons or measures are alike.
_TELLING = {
    "answered", "asked", "breaker", "endpoint", "injected", "layer", "model", "new_state", "old_state", "problems",
    "restart", "served_by", "step", "targets",
}  # fmt: skip
_NAMES = {kind: tuple(name for name in names if name in _TELLING) for kind, names in _FIELDS.items()}

#: What a program's context can't say of an event: it has profile and target of its own, and no program's logger.
_OWN = frozenset({"profile", "target", "logger"})


class EventLog:
    """
    A listener that writes every event down. Safe for concurrent use.

    A record is one of :class:`pixel_llm.monitoring.StructuredLogger`'s: its ``message`` is the event's name, its
    ``context`` has the profile too, and the target if it is of one, its ``extra`` the event's other fields, durations
    in seconds.

    Args:
        config: Levels and sinks.
        profile: The name of the profile, for the context.

    Attributes:
        log: Where the records go.
    """

    def __init__(self, config: LoggingConfig, *, profile: str) -> None:
        self.log = Log(config)
        self._profile = profile

    def __call__(self, event: Event) -> None:
        """Write *event* down."""
        kind = type(event)
        level = LEVELS[kind]
        if self.log.wants(event.target, NUMBERS[level]):
            extra = {name: _rounded(getattr(event, name)) for name in _FIELDS[kind]}
            code = getattr(event, "error_code", None)
            names = tuple(getattr(event, name) for name in _NAMES[kind])
            key = (level, event.name, event.target, code, _type_of_error(event, code), names)
            target = None if event.of_policy else event.target
            self._write(level, event.name, target, code, clean_fields(extra), key)

    def content(self, target: str, error: Exception | None = None, **content: str) -> None:
        """
        Write down what was asked and answered, all of it, if the policy says ``log_content: full``.

        Of a call that failed the record has the code of its *error* and the error's class, but not its text, which
        the record of the failure has.
        """
        if self.log.writes_content and self.log.wants(target, NUMBERS[LogLevel.INFO]):
            code = None if error is None else classify_error(error).error_code
            extra = clean_fields(content, content=True)
            self._write(LogLevel.INFO, "content", target, code, extra, None, error)

    def close(self, timeout: float = PATIENCE) -> None:
        """Write what waits, and close the sinks. A later record, as of a closed model's next call, opens them again."""
        self.log.close(timeout)

    def _write(
        self,
        level: LogLevel,
        message: str,
        target: str | None,
        code: str | None,
        extra: dict[str, Any],
        key: Hashable | None,
        error: Exception | None = None,
    ) -> None:
        given = {name: value for name, value in current_context().items() if name not in _OWN}
        of = {} if target is None else {"target": target}
        context = {"profile": self._profile, **of, **given}
        record = new_record(level.value.lower(), message, context=context, extra=extra, error_code=code)
        if error is not None:
            record["exception_type"] = type_of(error)
        self.log.write(_NAME, NUMBERS[level], record, key)


def _type_of_error(event: Event, code: str | None) -> str | None:
    """What kind of exception *event* tells of, where no code says so: its text begins with the name of the class."""
    text = getattr(event, "error", None)
    return text.partition(":")[0] if code is None and text is not None else None


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value
