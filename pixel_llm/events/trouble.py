"""Trouble that must harm nobody: somebody else's function has failed where nobody waits for what it gives."""

from __future__ import annotations

import contextlib
import logging

_LOGGER = logging.getLogger("pixel_llm")


def report_trouble(text: str, *args: object, level: int = logging.ERROR, exc_info: bool = True) -> None:
    """
    Write to the logger ``pixel_llm``, and never raise: a handler of the application's may.

    Args:
        text: What is wrong, with ``%`` for *args*.
        args: What is put in.
        level: How bad it is.
        exc_info: Whether to add the exception that is being handled.
    """
    # An application's handler that raises must not take a call, or its fallback, with it. Who raises there has been
    # told so by its own failure to write.
    with contextlib.suppress(Exception):
        _LOGGER.log(level, text, *args, exc_info=exc_info, stacklevel=2)
