"""Processes that work for another one end with it, however it ends."""

from __future__ import annotations

import os
import threading

# Bound here: what runs in the process may put something else in its place.
from time import sleep

#: How often is looked, in seconds.
_LOOK_UP = 0.2


def end_with(parent: int) -> None:
    """
    Have this process end soon after the process *parent*, which has started it, whatever it does then.

    A parent that is killed can tell nobody, and whoever waits for work from it would wait for ever.
    """
    threading.Thread(target=_watch, args=(parent,), name="lifeline", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:  # orphans get another one
        sleep(_LOOK_UP)
    os._exit(1)
