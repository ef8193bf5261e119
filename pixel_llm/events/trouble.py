"""Trouble that must harm nobody: somebody else's function has failed where nobody waits for what it gives."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable
from typing import TypeAlias

_LOGGER = logging.getLogger("pixel_llm")

#: Gets level, text and exception of trouble; true if it shows them on the console.
Tell: TypeAlias = Callable[[int, str, BaseException | None], bool]

_tell: Tell | None = None


def tell_trouble_to(tell: Tell) -> None:
    """From now on *tell* is told of trouble, too: a log of ours, which the application's handlers do not write to."""
    global _tell
    _tell = tell


def report_trouble(text: str, *args: object, level: int = logging.ERROR, exc_info: bool = True) -> None:
    """
    Write to the logger ``pixel_llm`` and to the log, and never raise: a handler of the application's may.

    Args:
        text: What is wrong, with ``%`` for *args*.
        args: What is put in.
        level: How bad it is.
        exc_info: Whether to add the exception that is being handled.
    """
    is_shown = False
    if _tell is not None:
        with contextlib.suppress(Exception):
            is_shown = _tell(level, text % args if args else text, sys.exception() if exc_info else None)
    # Without a handler the logger writes to the console as well, and once is enough.
    if not is_shown or _LOGGER.hasHandlers():
        report_to_application(text, *args, level=level, exc_info=exc_info, stacklevel=3)


def report_to_application(text: str, *args: object, level: int, exc_info: bool = False, stacklevel: int = 2) -> None:
    """:func:`report_trouble` for trouble of the log itself: to the logger ``pixel_llm`` alone."""
    # An application's handler that raises must not take a call, or its fallback, with it. Who raises there has been
    # told so by its own failure to write.
    with contextlib.suppress(Exception):
        _LOGGER.log(level, text, *args, exc_info=exc_info, stacklevel=stacklevel)
