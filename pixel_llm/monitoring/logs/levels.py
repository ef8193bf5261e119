"""Which records are wanted: a level, and other ones for single targets."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.policy import LogLevel
from pixel_llm.policy.sections.target import patterns_for

#: The standard library's numbers.
NUMBERS = {level: int(getattr(logging, level.value)) for level in LogLevel}

#: So many names are remembered; a program that makes up names without end does not fill the memory.
_MOST_NAMES = 10_000


class Levels:
    """
    The level of each target or logger, by its name. Safe for concurrent use.

    Args:
        level: Where nothing else is said.
        levels: For single names, and for patterns such as ``billing.*``.
    """

    def __init__(self, level: LogLevel, levels: Mapping[str, LogLevel]) -> None:
        self._level = level
        self._levels = dict(levels)
        self._known: dict[str, int] = {}

    def change(self, level: LogLevel | str, name: str | None = None) -> None:
        """From now on *level* is that of *name*, or of all that have none of their own."""
        level = as_level(level)
        if name is None:
            self._level = level
        else:
            self._levels = {**self._levels, name: level}
        self._known = {}

    def of(self, name: str) -> int:
        """The number of the level of *name*."""
        known = self._known
        number = known.get(name)
        if number is None:
            number = self._find(name)
            if len(known) < _MOST_NAMES:
                known[name] = number
        return number

    def _find(self, name: str) -> int:
        levels = self._levels
        if name in levels:
            return NUMBERS[levels[name]]
        patterns = patterns_for(name, levels)
        return NUMBERS[levels[patterns[-1]] if patterns else self._level]


def as_level(level: LogLevel | str) -> LogLevel:
    """
    The level that *level* names, in any case of its letters.

    Raises:
        ValidationError: If there is none of that name.
    """
    try:
        return LogLevel(str(level).upper())
    except ValueError:
        names = ", ".join(LogLevel)
        raise ValidationError(
            f"a log level must be one of {names} (got {level!r})", error_code=ErrorCode.ERR_VAL_INVALID_RANGE
        ) from None
