"""Threads that wait for work: waking one costs a fraction of starting one."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pixel_llm.resilience.threads.forking import forget_after_fork

#: What a thread does once. It must not raise. What it returns is called when the thread is free
#: again, so whoever is told thereby that the work has ended can have the same thread back at once.
Task = Callable[[], Callable[[], object]]


class WorkerThreads:
    """
    Daemon threads that are handed tasks, and wait for the next one when they are done. Safe for concurrent use.

    There is no limit on the threads that work: a task never queues. Threads don't keep the process
    alive, hold on to nothing of a task that has ended, and are forgotten in a forked child, which has
    none of them.

    Args:
        max_idle: Threads that may wait for work; a further one ends when its task does.
        idle_seconds: How long one waits before it ends.
    """

    def __init__(self, *, max_idle: int = 32, idle_seconds: float = 30.0) -> None:
        self._max_idle = max_idle
        self._idle_seconds = idle_seconds
        # Appending to a list, and taking from it, are single steps: they need no lock.
        self._idle: list[_Worker] = []
        forget_after_fork(self)

    @property
    def idle(self) -> int:
        """How many threads wait for work now."""
        return len(self._idle)

    def run(self, task: Task, name: str) -> None:
        """Run *task* in a thread, which is called *name* meanwhile."""
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker(self)
            worker.take(task, name)
            worker.thread.start()
        else:
            worker.take(task, name)

    def park(self, worker: _Worker) -> bool:
        """Let *worker* wait for work; False if enough do."""
        if len(self._idle) >= self._max_idle:
            return False
        self._idle.append(worker)
        return True

    def unpark(self, worker: _Worker) -> bool:
        """Let an idle *worker* end; False if a task is on its way to it."""
        try:
            self._idle.remove(worker)
        except ValueError:
            return False
        return True

    def wait_seconds(self) -> float:
        """How long an idle thread waits."""
        return self._idle_seconds

    def forget(self) -> None:
        """Forget the threads of the process that this one was forked from."""
        self._idle = []


class _Worker:
    """One thread, and how it is woken."""

    __slots__ = ("_pool", "_task", "_wake", "thread")

    _task: Task  # there while one is on its way

    def __init__(self, pool: WorkerThreads) -> None:
        self._pool = pool
        self._wake = threading.Lock()
        self._wake.acquire()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def take(self, task: Task, name: str) -> None:
        """Hand over a task and wake the thread."""
        self.thread.name = name
        self._task = task
        self._wake.release()

    def _work(self) -> None:
        while self._woken():
            task = self._task
            del self._task
            tell = task()
            del task
            parked = self._pool.park(self)
            tell()
            del tell
            if not parked:
                return

    def _woken(self) -> bool:
        """Wait for a task; False if there has been none for long enough."""
        while not self._wake.acquire(timeout=self._pool.wait_seconds()):
            if self._pool.unpark(self):
                return False
        return True


#: The threads of this process, shared by all stacks.
WORKERS = WorkerThreads()
