"""What happened, for people and machines: fed by the stacks' events and by their own counters."""

from pixel_llm.monitoring.event_log import EventLog
from pixel_llm.monitoring.health import Health, HealthStatus, TargetHealth
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
from pixel_llm.monitoring.snapshot.model import Snapshot, TargetSnapshot
from pixel_llm.monitoring.tally import Tally

__all__ = [
    "EventLog",
    "Health",
    "HealthStatus",
    "Log",
    "LogContext",
    "LogLevel",
    "Snapshot",
    "StructuredLogger",
    "Tally",
    "TargetHealth",
    "TargetSnapshot",
    "current_context",
    "get_default_logger",
    "get_logger",
    "set_context",
]
