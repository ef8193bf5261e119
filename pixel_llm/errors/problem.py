"""Problems in a file: what is wrong, and where."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in a source. Lines and columns count from 1; 0 means the whole file."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """
    One thing that is wrong.

    Its text is one line, ``file:line:column: path: message``, as editors and CI systems
    read it; what would break the line or move a terminal's cursor is escaped. *path* is
    the dotted way to the value, such as ``targets.lm_studio.chat.retry``, and empty for
    the document itself.
    """

    place: Place
    path: str
    message: str

    def __str__(self) -> str:
        text = ": ".join(part for part in (str(self.place), self.path, self.message) if part)
        return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
