"""Ending by a signal, and leaving the terminal as it was."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

#: What ends a program from outside; Windows knows no hang-up.
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class _Ended(BaseException):
    """A signal came."""


@contextlib.contextmanager
def tidy_ending() -> Iterator[None]:
    """
    Within, a signal that ends the program unwinds what is inside first; then the program ends by that signal.

    One that is ignored, as under `nohup`, stays ignored. For the main thread only.
    """
    came: list[int] = []

    def end(number: int, frame: FrameType | None) -> NoReturn:
        came.append(number)
        raise _Ended

    ours = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    except (_Ended, OSError):  # a terminal that has gone can't be left as it was
        if not came:
            raise
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
        if came:
            signal.raise_signal(came[0])
