"""Problems in a file: what is wrong, and where."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in a source. Lines and columns count from 1; 0 means the whole file."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class ProblemSeverity(StrEnum):
    """An ERROR never starts; a WARNING is likely a mistake; a NOTE is worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


_LONGEST = 1000


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """
    One thing that is wrong.

    Its text is one line, ``file:line:column: path: message``, as editors and CI systems
    read it; what would break the line or move a terminal's cursor is escaped. What is no
    error names its severity and its rule as well.

    Attributes:
        place: Where.
        path: The dotted way to the value, such as ``targets.lm_studio.chat.retry``; empty for the document itself.
        message: What is wrong, and what would be right.
        rule: The stable id of the rule that is broken; see the rules' pages.
        severity: How bad it is.
    """

    place: Place
    path: str
    message: str
    rule: str = "PL003"
    severity: ProblemSeverity = ProblemSeverity.ERROR

    def __post_init__(self) -> None:
        # What is shown of a file is bounded, since a single key may be as long as the file.
        object.__setattr__(self, "path", _shortened(self.path))
        object.__setattr__(self, "message", _shortened(self.message))

    def __str__(self) -> str:
        message = self.message
        if self.severity is not ProblemSeverity.ERROR:
            message = f"{self.severity}: {message} [{self.rule}]"
        text = ": ".join(part for part in (str(self.place), self.path, message) if part)
        return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
