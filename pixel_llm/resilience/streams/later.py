"""Doing something later, or somewhere else, for code that has no event loop."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from pixel_llm.resilience.threads.forking import forget_after_fork
from pixel_llm.resilience.threads.pool import WORKERS, WorkerThreads

#: What is done. It must not raise.
Work = Callable[[], object]

#: Seconds after which is tried again what no thread could be had for.
_AGAIN = 1.0


def _nothing() -> None:
    """What a worker thread tells nobody."""


class Later:
    """
    Runs functions in worker threads, at once or after a time. Safe for concurrent use.

    One daemon thread keeps the time; none is there until :meth:`start` or :meth:`after` is called.
    """

    def __init__(self, workers: WorkerThreads = WORKERS) -> None:
        self._workers = workers
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        # It may be put into by a finaliser that interrupts putting into it.
        self._asked: SimpleQueue[tuple[float, int, Work]] = SimpleQueue()
        self._numbers = itertools.count()
        forget_after_fork(self)

    def start(self) -> None:
        """Make the thread, if there is none."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="pixel-llm later", daemon=True)
                    self._thread.start()

    def after(self, seconds: float, work: Work) -> None:
        """Run *work* in *seconds* of real time."""
        self.start()
        self._asked.put((time.monotonic() + seconds, next(self._numbers), work))

    def soon(self, work: Work) -> None:
        """Run *work* soon, if the thread is there. Takes no lock and starts nothing: a finaliser may call it."""
        self._asked.put((0.0, next(self._numbers), work))

    def forget(self) -> None:
        """Forget the thread of the process that this one was forked from."""
        self._lock = threading.Lock()
        self._thread = None
        self._asked = SimpleQueue()

    def _run(self) -> None:
        due: list[tuple[float, int, Work]] = []
        while True:
            try:
                heapq.heappush(due, self._asked.get(timeout=due[0][0] - time.monotonic() if due else None))
            except (Empty, ValueError):  # the first of them is due, or has been for a while
                _, number, work = heapq.heappop(due)
                try:
                    self._workers.run(_task(work), "pixel-llm later")
                except RuntimeError:  # the system has no further thread
                    heapq.heappush(due, (time.monotonic() + _AGAIN, number, work))


def _task(work: Work) -> Any:
    def task() -> Work:
        work()
        return _nothing

    return task


#: The one of this process.
LATER = Later()
