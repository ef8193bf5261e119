"""What happened, for people and machines: fed by the stacks' events."""

from pixel_llm.monitoring.event_log import EventLog
from pixel_llm.monitoring.logs import (
    Log,
    LogContext,
    LogLevel,
    StructuredLogger,
    current_context,
    get_default_logger,
    get_logger,
    set_context,
)

__all__ = [
    "EventLog",
    "Log",
    "LogContext",
    "LogLevel",
    "StructuredLogger",
    "current_context",
    "get_default_logger",
    "get_logger",
    "set_context",
]
