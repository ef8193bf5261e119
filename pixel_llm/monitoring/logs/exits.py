"""The end of a process: what waits is written then, in processes of ``multiprocessing`` too."""

from __future__ import annotations

import atexit
import sys
import threading
import time
import weakref
from typing import Protocol

from pixel_llm.resilience.threads.forking import forget_after_fork

#: So many seconds a process that ends waits for its logs in all, should a disk or a pipe hang.
PATIENCE = 5.0


class Ending(Protocol):
    """Something that has work left when the process ends."""

    def finish(self, timeout: float) -> bool:
        """Do it, within *timeout* seconds."""


class _Watched:
    """What has work left. Safe for concurrent use, and after fork."""

    def __init__(self) -> None:
        self._things: weakref.WeakSet[Ending] = weakref.WeakSet()
        self.forget()
        forget_after_fork(self)

    def forget(self) -> None:
        self._lock = threading.RLock()
        self._is_known_to_multiprocessing = False

    def add(self, thing: Ending) -> None:
        with self._lock:
            self._things.add(thing)

    def finish(self) -> None:
        with self._lock:
            things = list(self._things)
        ends = time.monotonic() + PATIENCE
        for thing in things:
            thing.finish(max(0.1, ends - time.monotonic()))

    def tell_multiprocessing(self) -> None:
        # Its forked processes end with os._exit(), which runs nothing that atexit knows.
        process = sys.modules.get("multiprocessing.process")
        with self._lock:
            if process is None or process.parent_process() is None or self._is_known_to_multiprocessing:
                return
            self._is_known_to_multiprocessing = True
        from multiprocessing import util

        util.Finalize(None, self.finish, exitpriority=0)


_watched = _Watched()
# Registered first, so it runs after what the program registers: that may still log.
atexit.register(_watched.finish)


def watch(thing: Ending) -> None:
    """Have *thing* finish when the process ends, if it is still there."""
    _watched.add(thing)


def watch_this_process() -> None:
    """Note that there is something to finish in this very process."""
    _watched.tell_multiprocessing()
