"""What a check can find."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pixel_llm.errors import ErrorFamily, PixelLMError

_SLOW = "look what it is busy with; where it is only slow, give it more time with --timeout"


class Outcome(StrEnum):
    """How a check ended. A WARNING is worth mending and stops nothing; SKIPPED says in its message why."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found, and what is to be done about it; *todo* is empty where nothing is. Immutable."""

    outcome: Outcome
    message: str
    todo: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """
    One check that is over. Immutable.

    Attributes:
        name: The check's name.
        server: The base URL of the server that was looked at, without user name and password; None if it was none.
        outcome: How it ended.
        message: What was found; several lines where there are several problems.
        todo: What to do about it; empty where nothing is to be done.
        seconds: How long it took; 0 if it was skipped.
    """

    name: str
    server: str | None = None
    outcome: Outcome
    message: str
    todo: str = ""
    seconds: float = 0.0


def ok(message: str) -> Finding:
    """All is well."""
    return Finding(Outcome.OK, message)


def warning(message: str, todo: str) -> Finding:
    """Captions can be had, but."""
    return Finding(Outcome.WARNING, message, todo)


def failed(message: str, todo: str) -> Finding:
    """Captions can't be had."""
    return Finding(Outcome.FAILED, message, todo)


def skipped(message: str) -> Finding:
    """There was nothing to look at."""
    return Finding(Outcome.SKIPPED, message)


def failure_of(error: Exception) -> Finding:
    """The finding of a check that *error* ended."""
    if isinstance(error, PixelLMError):  # its target is only the name of the check
        slow = error.info.family is ErrorFamily.TIMEOUT
        todo = _SLOW if slow else error.advice or error.info.suggestion
        return failed(error.message.removesuffix(f"; {todo}"), todo)
    return failed(f"{type(error).__name__}: {error}", "report this with the command that shows it: it is a bug")
