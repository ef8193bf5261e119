"""The keys that are pressed meanwhile: ``q`` ends what is watched."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

#: Waits so many seconds, and says whether ``q`` was pressed meanwhile.
Wait: TypeAlias = Callable[[float], bool]


@contextlib.contextmanager
def keys() -> Iterator[Wait]:
    """Within, keys are read one by one and not shown; where standard input is no terminal of that kind, not at all."""
    try:
        import termios
        import tty
    except ImportError:  # Windows
        termios = None  # type: ignore[assignment]  # as mypy knows it where it is
    if termios is None or not sys.stdin.isatty():
        yield _just_wait
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)
        yield lambda seconds: _wait_for_q(number, seconds)
    finally:
        with contextlib.suppress(termios.error):  # the terminal may have gone
            termios.tcsetattr(number, termios.TCSADRAIN, before)


def _just_wait(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _wait_for_q(number: int, seconds: float) -> bool:
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        if not select.select([number], [], [], left)[0]:
            break
        pressed = os.read(number, 1024)
        if not pressed:  # nobody is at the other end
            time.sleep(max(0.0, ends - time.monotonic()))
        if b"q" in pressed.lower():
            return True
    return False
