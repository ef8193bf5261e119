"""Which records are wanted: a level, and other ones for single targets."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.policy import LogLevel
from pixel_llm.policy.sections.target import patterns_for

#: The standard library's numbers.
NUMBERS = {level: int(getattr(logging, level.value)) for level in LogLevel}
_BY_NUMBER = {number: level for level, number in NUMBERS.items()}

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
        self._said = level, dict(levels)
        self._level, self._levels = self._said
        self._known: dict[str, int] = {}

    def change(self, level: LogLevel | str | int | None, name: str | None = None) -> None:
        """
        From now on *level* is that of *name*, or of all that have none of their own; with None, what the policy says.

        Args:
            level: Its name, or the standard library's number, such as ``logging.DEBUG``.
            name: A target, a logger or a pattern such as ``billing.*``. Loggers may come later, so that a name which
                nobody has is none that is wrong.

        Raises:
            ValidationError: If there is no such level, or *name* is no text.
        """
        new = None if level is None else as_level(level)
        if name is None:
            self._level = self._said[0] if new is None else new
        elif not isinstance(name, str) or not name:
            raise ValidationError(f'a level is that of a target or logger such as "shop.pay" (got {name!r})')
        else:
            others = {other: level for other, level in self._levels.items() if other != name}
            new = self._said[1].get(name) if new is None else new
            self._levels = others if new is None else {**others, name: new}
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


def as_level(level: LogLevel | str | int) -> LogLevel:
    """
    The level that *level* names, in any case of its letters, or by the standard library's number.

    Raises:
        ValidationError: If there is none of that name or number.
    """
    if type(level) is int and level in _BY_NUMBER:
        return _BY_NUMBER[level]
    try:
        return LogLevel(str(level).upper())
    except ValueError:
        names = ", ".join(LogLevel)
        raise ValidationError(
            f"a log level must be one of {names} (got {level!r})", error_code=ErrorCode.ERR_VAL_INVALID_RANGE
        ) from None
