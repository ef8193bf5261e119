"""One load of a model that is under way, and all that wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator

from pixel_llm.resilience.clock import Clock


class Load:
    """
    A load under way. Threads and tasks of any event loop wait for it; whoever stops waiting leaves nothing behind.

    Attributes:
        ends: The moment by which it must be over.
        has_ended: Whether it is.
        ran_out_of_time: Whether it was cut short.
    """

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.has_ended = False
        self.ran_out_of_time = False
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], object]] = []

    def end(self) -> None:
        """It is over: everybody who waits goes on."""
        with self._lock:
            self.has_ended = True
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            with contextlib.suppress(RuntimeError):  # its event loop is closed
                wake()

    def wait(self, until: float, clock: Clock) -> None:
        """Wait, in a thread, until it has ended or the moment *until* of *clock* has come."""
        woken = threading.Event()
        with self._watching(woken.set):
            while not self.has_ended and (remaining := until - clock.monotonic()) > 0:
                woken.wait(min(clock.patience(remaining), threading.TIMEOUT_MAX))

    async def wait_async(self, until: float, clock: Clock) -> None:
        """:meth:`wait`, in a task."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        with self._watching(lambda: loop.call_soon_threadsafe(_settle, woken)):
            while not self.has_ended and (remaining := until - clock.monotonic()) > 0:
                await asyncio.wait([woken], timeout=clock.patience(remaining))

    @contextlib.contextmanager
    def _watching(self, wake: Callable[[], object]) -> Iterator[None]:
        """While this lasts, *wake* is called when the load ends."""
        with self._lock:
            if not self.has_ended:
                self._wakers.append(wake)
        try:
            yield
        finally:
            with self._lock:
                if wake in self._wakers:
                    self._wakers.remove(wake)


def _settle(woken: asyncio.Future[None]) -> None:
    if not woken.done():  # its task may have been cancelled meanwhile
        woken.set_result(None)
