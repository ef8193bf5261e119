"""What is left when calls are over: sockets, threads, tasks, memory, and complaints that reach no caller."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixel_llm.resilience.threads.pool import WORKERS

#: Seconds that what is on its way out may take.
_PATIENCE = 10.0
#: From half-way to the end, so much more may be in use: objects of Python's, and bytes of the process.
_MORE_OBJECTS, _MORE_BYTES = 2_000, 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """What is in use: *objects* that the garbage collector knows, and resident *bytes*. Immutable."""

    objects: int
    bytes: int

    @classmethod
    def now(cls) -> Memory:
        """Count, after collecting what can be collected."""
        for _ in range(3):
            gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(len(gc.get_objects()), pages * os.sysconf("SC_PAGESIZE"))


def complain_of_memory(shifts: list[Memory]) -> list[str]:
    """What is wrong with the memory after each of *shifts*; the first half is what it takes to warm up."""
    if len(shifts) < 4:
        return []
    half, last = shifts[len(shifts) // 2 - 1], shifts[-1]
    found = []
    if last.objects - half.objects > _MORE_OBJECTS:
        found.append(f"{last.objects - half.objects} objects more than half-way")
    if last.bytes - half.bytes > _MORE_BYTES:
        found.append(f"{(last.bytes - half.bytes) / 1024:.0f} KiB more than half-way")
    return found


def open_sockets() -> int:
    """How many sockets this process has open."""
    return sum(_is_socket(link) for link in Path("/proc/self/fd").iterdir())


def busy_threads() -> int:
    """How many threads there are, but for those that wait for work."""
    return threading.active_count() - WORKERS.idle


def settle(count: Callable[[], int], wanted: int) -> int:
    """Wait until *count* gives *wanted* or less, or patience ends; what it gives then."""
    ends = time.monotonic() + _PATIENCE
    while (found := count()) > wanted and time.monotonic() < ends:
        gc.collect()
        time.sleep(0.02)
    return found


async def complain_of_tasks() -> list[str]:
    """Tasks of this loop that are still there when all calls have ended."""
    ends = time.monotonic() + _PATIENCE
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        if time.monotonic() > ends:
            return [f"a task is left: {task!r}" for task in others]
        await asyncio.sleep(0.02)
    return []


class Eavesdropper(logging.Handler):
    """
    Hears what no caller does: errors of the library's log, of destructors, threads and event loops.

    Attributes:
        heard: All of it.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what the library could only log."""
        if not record.name.endswith(".events"):  # what happens to calls is told there too
            self.heard.append(f"logged: {record.getMessage()} {record.exc_info}")

    def listen_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear the complaints of *loop*."""
        loop.set_exception_handler(lambda _, context: self.heard.append(f"the loop: {context}"))

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Hear everything meanwhile; nothing of it is printed."""
        logger = logging.getLogger("pixel_llm")
        before = sys.unraisablehook, threading.excepthook, logger.propagate
        sys.unraisablehook = self._unraisable
        threading.excepthook = self._in_thread
        logger.propagate = False
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)
            sys.unraisablehook, threading.excepthook, logger.propagate = before

    def _unraisable(self, what: Any) -> None:
        self.heard.append(f"unraisable: {what.exc_value!r} in {what.object!r}")

    def _in_thread(self, what: Any) -> None:
        self.heard.append(f"in {what.thread}: {what.exc_value!r}")


def _is_socket(link: Path) -> bool:
    try:
        return str(link.readlink()).startswith("socket:")
    except OSError:  # it was closed meanwhile
        return False
