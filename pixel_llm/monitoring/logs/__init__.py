"""Structured logs: one JSON object a line, written by a thread of its own, so that nobody waits for the disk."""

from pixel_llm.monitoring.logs.context import LogContext, current_context, set_context
from pixel_llm.monitoring.logs.log import Log
from pixel_llm.monitoring.logs.logger import StructuredLogger
from pixel_llm.monitoring.logs.registry import get_default_logger, get_logger
from pixel_llm.policy import LogLevel

__all__ = [
    "Log",
    "LogContext",
    "LogLevel",
    "StructuredLogger",
    "current_context",
    "get_default_logger",
    "get_logger",
    "set_context",
]
