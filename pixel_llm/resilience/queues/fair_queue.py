"""
First come, first served, for threads and for tasks of any event loop at once.

What the bulkhead and the rate limit share: those who wait, how they are woken, and a lock that is held for
bookkeeping only. Whatever comes back (a slot, a stamp, someone who waits no longer) is put into a list, which
is atomic, and is dealt with by whoever gets the lock without waiting for it: the one who put it there, or the
one who holds the lock, when he lets go of it. So giving back never blocks, and may happen anywhere: in a
finaliser that runs while this very thread holds the lock, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from math import inf
from typing import Any

from pixel_llm.resilience.threads.forking import forget_after_fork

#: The operating system takes no endless timeouts; who waits longer than a day waits again.
LONGEST_WAIT = 86_400.0


class Waiter:
    """
    Someone in the queue. What is in here is written with the queue's lock held.

    Attributes:
        granted: True once he has got what he waits for.
        settled: True once he has taken it, or it has been taken back: neither happens twice. A waking that comes
            late may find him long gone, and his event loop closed; a task that is dropped gives back what was
            taken back when its loop was closed.
        stamp: The moment at which he got it.
        planned: The moment at which he looks again by himself.
    """

    __slots__ = ("granted", "planned", "settled", "stamp")

    def __init__(self) -> None:
        self.granted = False
        self.settled = False
        self.stamp = 0.0
        self.planned = inf

    def wake(self) -> bool:
        """Make him look again, from any thread. False if he never will: his event loop is closed."""
        raise NotImplementedError


class ThreadWaiter(Waiter):
    """A thread that waits."""

    __slots__ = ("_signal",)

    def __init__(self) -> None:
        super().__init__()
        self._signal = threading.Lock()
        self._signal.acquire()

    def wake(self) -> bool:
        """Make him look again."""
        with contextlib.suppress(RuntimeError):  # woken before, and he hasn't looked yet
            self._signal.release()
        return True

    def wait(self, seconds: float) -> None:
        """Block until woken, *seconds* at most. Wakings are not lost: one that came before ends the next wait."""
        self._signal.acquire(timeout=min(seconds, LONGEST_WAIT))


class TaskWaiter(Waiter):
    """A task that waits. Belongs to the event loop in which it was made, but for :meth:`wake`."""

    __slots__ = ("_future", "_loop", "_woken")

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] | None = None
        self._woken = False

    def wake(self) -> bool:
        """Make him look again; False if his loop is closed."""
        try:
            if _running_loop() is self._loop:
                self._look()
            else:
                self._loop.call_soon_threadsafe(self._look)
        except RuntimeError:
            return False
        return True

    async def wait(self, seconds: float) -> None:
        """Suspend until woken, *seconds* at most. Wakings are not lost: one that came before ends the next wait."""
        self._future = future = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._look) if seconds < LONGEST_WAIT else None
        try:
            # After the future is there: a finaliser may wake at any moment.
            if not self._woken:
                await future
        finally:
            self._future, self._woken = None, False
            if timer is not None:
                timer.cancel()

    def _look(self) -> None:
        self._woken = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class FairQueue:
    """
    The base class of what calls queue for. Safe for concurrent use.

    Subclasses keep their state behind ``_lock`` and say in :meth:`_settle` what becomes of what came back.
    Entering is not reentrant: a finaliser or a signal handler must not enter the same queue. Giving back is.
    """

    __slots__ = ("__weakref__", "_lock", "_mail", "_waiters")

    def __init__(self) -> None:
        self.forget()
        forget_after_fork(self)

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._waiters)

    def forget(self) -> None:
        """Forget all who hold something or wait: begin anew, as a forked child does."""
        self._lock = threading.Lock()
        self._mail: list[Any] = []
        # Most queues are never used; an empty deque takes 600 bytes, so it is made for the first who waits.
        self._waiters: deque[Any] | tuple[()] = ()

    def _join(self, waiter: Waiter, *, first: bool = False) -> None:
        """Let *waiter* queue: as the last, or as the *first*. Call with the lock held."""
        if not isinstance(self._waiters, deque):
            self._waiters = deque()
        if first:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)

    def _drop(self, waiter: Waiter) -> None:
        """Let *waiter* queue no longer. Call with the lock held."""
        if isinstance(self._waiters, deque) and waiter in self._waiters:
            self._waiters.remove(waiter)

    def _settle(self) -> list[Any]:
        """
        Take back what is in the mail and hand it on, in order. Called with the lock held.

        Returns:
            Those who must be woken.
        """
        raise NotImplementedError

    def _give_back(self, item: Any) -> None:
        """Take *item* back, now or as soon as the lock is free. Never blocks."""
        self._mail.append(item)
        self._tidy()

    def _is_untidy(self) -> bool:
        """True if there is something for :meth:`_settle` to do."""
        return bool(self._mail)

    def _tidy(self) -> None:
        """Settle what there is to settle. Whoever has held the lock calls this when he has let go of it."""
        while self._is_untidy() and self._lock.acquire(blocking=False):
            try:
                granted = self._settle()
            finally:
                self._lock.release()
            self._wake(granted)

    def _wake(self, waiters: list[Any]) -> None:
        """Wake *waiters*. Call without the lock. What someone got whose event loop is closed comes back."""
        for waiter in waiters:
            if not waiter.wake():
                self._mail.append(waiter)
