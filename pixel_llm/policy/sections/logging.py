"""The `logging` section: what is written down, and where."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pixel_llm.policy.kinds import Choice, Flag, Text
from pixel_llm.policy.settings import setting


class LogLevel(StrEnum):
    """How much is written down."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"


class LogContent(StrEnum):
    """Whether what people ask and get is written down."""

    REDACTED = "redacted"
    FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingConfig:
    """
    Where the log goes, one JSON object a line. Immutable, safe to share between threads.

    With neither a file nor the console, records go to the standard library's logger
    ``pixel_llm`` alone, where the application's own handlers find them.
    """

    level: LogLevel = setting(
        Choice(LogLevel), "Records below this level are not written.", default=LogLevel.INFO, example="INFO"
    )
    file: str | None = setting(
        Text("the path of a file", r"[^/]$"),
        "A file that records are appended to; its folder is made if need be. Relative to the working directory.",
        default=None,
        example="logs/pixel_llm.log",
    )
    console: bool = setting(Flag(), "Whether records are written to standard error.", default=False, example=True)
    log_content: LogContent = setting(
        Choice(LogContent),
        "full writes each prompt and its caption down, at INFO; redacted writes neither. Pictures and keys are never "
        "written.",
        default=LogContent.REDACTED,
        example="redacted",
    )
