"""The `logging` section: what is written down, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pixel_llm.policy.kinds import Choice, Duration, Flag, Integer, MapOf, Setting, Size, Text
from pixel_llm.policy.sections.target import TARGET_PATTERN
from pixel_llm.policy.settings import Section, setting


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


class LogFormat(StrEnum):
    """How records look on the console."""

    JSON = "json"
    CONSOLE = "console"


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationConfig:
    """
    When a log file makes room for a fresh one, and how many are kept. Immutable, safe to share between threads.

    ``max_size`` is bytes.
    """

    max_size: int = setting(
        Size(),
        "A record that would make the file larger begins a fresh one; the one before becomes .1, that one .2, and so "
        "on.",
        default=64 * 1024**2,
        example="64MiB",
    )
    keep: int = setting(
        Integer(1, 1000), "How many files are kept beside the fresh one; the oldest is deleted.", default=5, example=5
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """
    How many of the records that say the same are written. Immutable, safe to share between threads.

    Records say the same if level, message, target or logger, error code, type of the exception and what an event names
    are equal. ``period`` is seconds.
    """

    every: int = setting(
        Integer(2, 1_000_000),
        "Of records that say the same, the first of a period is written, and then every so many-th, which tells how "
        "many were left out.",
        default=100,
        example=100,
    )
    period: float = setting(Duration(), "Counting begins anew that long after a first one.", default=60.0, example="1m")


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
    levels: Mapping[str, LogLevel] = field(
        default_factory=dict,
        metadata={
            "setting": Setting(
                MapOf(
                    Choice(LogLevel),
                    TARGET_PATTERN,
                    "a target name such as billing.charge, or a pattern such as billing.*",
                ),
                "Levels for single targets, or for all that a pattern covers, in place of level; the most specific one "
                "counts. A logger of the program has that of its name.",
                {"lm_studio.chat": "DEBUG"},
            )
        },
    )
    file: str | None = setting(
        Text("the path of a file", r"[^/]$"),
        "A file that records are appended to; its folder is made if need be. Relative to the working directory or ~.",
        default=None,
        example="logs/pixel_llm.log",
    )
    rotation: RotationConfig | None = setting(
        Section(RotationConfig),
        "Lets the file begin anew when it is large. Without it, it grows until another program turns it over.",
        default=None,
        example={"max_size": "64MiB", "keep": 5},
    )
    console: bool = setting(Flag(), "Whether records are written to standard error.", default=False, example=True)
    format: LogFormat = setting(
        Choice(LogFormat),
        "How records look on the console: json is one JSON object a line, as in the file; console is for people.",
        default=LogFormat.JSON,
        example="console",
    )
    sampling: SamplingConfig | None = setting(
        Section(SamplingConfig),
        "Leaves out most of many records that say the same; without it, all are written.",
        default=None,
        example={"every": 100, "period": "1m"},
    )
    queue_size: int = setting(
        Integer(100, 10_000_000),
        "How many records may wait for being written to file and console. Further ones are dropped and counted: a call "
        "never waits for the log.",
        default=10_000,
        example=10_000,
    )
    log_content: LogContent = setting(
        Choice(LogContent),
        "full writes each prompt and its caption down, at INFO; redacted writes neither. Pictures and keys are never "
        "written.",
        default=LogContent.REDACTED,
        example="redacted",
    )
