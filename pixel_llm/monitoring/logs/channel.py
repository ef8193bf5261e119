"""From callers, who never wait, to the outputs, which may: a bounded queue and a thread that empties it."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Sequence
from enum import Enum
from typing import Any

from pixel_llm.monitoring.logs import exits
from pixel_llm.monitoring.logs.outputs import Output
from pixel_llm.monitoring.logs.record import Record, note
from pixel_llm.resilience.threads.forking import forget_after_fork

#: The most records that are written at once.
_BATCH = 500

#: Put into the queue behind the last record.
_STOP = object()


class _State(Enum):
    OPEN = "a thread writes"
    ENDING = "the thread writes what waits; what comes waits for what is next"
    SYNCHRONOUS = "callers write"
    CLOSED = "nobody writes"


class Channel:
    """
    Takes records and has them written by a thread of its own. Safe for concurrent use, and after fork.

    ``queue.SimpleQueue`` may be put into even where the garbage collector or a signal has interrupted another put,
    which a queue with a lock in Python could not.

    Args:
        outputs: Who gets every record, in this order.
        size: So many records may wait.

    Attributes:
        dropped: How many records found the queue full. The log tells of them as soon as there is room again.
    """

    def __init__(self, outputs: Sequence[Output], size: int) -> None:
        self._outputs = tuple(outputs)
        self._size = size
        self._state = _State.OPEN
        self._begin_anew()
        forget_after_fork(self)
        exits.watch(self)

    def forget(self) -> None:
        """Begin anew in a forked child: the thread, and the records that wait, are the parent's."""
        self._begin_anew()
        for output in self._outputs:
            output.forget()

    def _begin_anew(self) -> None:
        self._lock = threading.RLock()
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_running = False
        self.dropped = self._told = 0

    def offer(self, record: Record) -> None:
        """Have *record* written soon; if too many wait already, drop and count it. Never waits."""
        if not self._is_running and not self._begin(record):
            return
        if self._queue.qsize() >= self._size:
            with self._lock:
                self.dropped += 1
            return
        self._queue.put(record)
        if not self._is_running:
            self._write_rest()  # the thread has ended meanwhile

    def flush(self, timeout: float) -> bool:
        """Wait, up to *timeout* seconds, until the outputs were given what was offered so far; True if they were."""
        if not self._is_running:
            return True
        mark = threading.Event()
        self._queue.put(mark)
        self._write_rest()  # should the thread have ended meanwhile
        return mark.wait(timeout)

    def close(self, timeout: float) -> bool:
        """
        Write what waits, and take no more.

        Returns:
            True if the outputs were given all within *timeout* seconds. With 0 nobody waits: the thread ends by itself.
        """
        with self._lock:
            if self._state is _State.CLOSED:
                return True
            self._state = _State.CLOSED
        return self._end(timeout)

    def finish(self, timeout: float) -> bool:
        """Write what waits, since the process ends; what is offered later is written at once, by its caller."""
        with self._lock:
            is_closed = self._state is _State.CLOSED
            self._state = _State.CLOSED if is_closed else _State.ENDING
        done = self._end(timeout)  # of a closed one, too: nobody may have waited for its thread
        # A sink that hangs would hang every caller.
        self._state = _State.SYNCHRONOUS if done and not is_closed else _State.CLOSED
        self._write_rest()
        return done

    def _begin(self, record: Record) -> bool:
        """Start the thread if *record* shall go to it."""
        with self._lock:
            if self._is_running or (self._state is _State.OPEN and self._start()):
                return True
            if self._state is not _State.CLOSED:
                self._queue.put(record)
                self._write_rest()
            return False

    def _start(self) -> bool:
        thread = threading.Thread(target=self._run, args=(self._queue,), name="pixel-llm log", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending
            self._state = _State.SYNCHRONOUS
            return False
        self._thread = thread
        self._is_running = True
        exits.watch_this_process()
        return True

    def _end(self, timeout: float) -> bool:
        thread = self._thread
        if thread is None:
            for output in self._outputs:
                output.close()
            return True
        self._queue.put(_STOP)
        if timeout > 0 and thread is not threading.current_thread():
            thread.join(timeout)
        return not thread.is_alive()

    def _run(self, waiting: queue.SimpleQueue[Any]) -> None:
        is_last = False
        while not is_last:
            things = [waiting.get()]
            while len(things) < _BATCH and things[-1] is not _STOP:
                try:
                    things.append(waiting.get_nowait())
                except queue.Empty:
                    break
            is_last = things[-1] is _STOP
            # Nothing ends this thread early, not even a handler of the application that calls sys.exit().
            with contextlib.suppress(BaseException):
                self._write([thing for thing in things if isinstance(thing, dict)])
                if is_last or waiting.qsize() <= self._size // 2:
                    self._tell_dropped()
            for thing in things:
                if isinstance(thing, threading.Event):
                    thing.set()
        for output in self._outputs:
            output.close()
        self._is_running = False

    def _write(self, records: Sequence[Record]) -> None:
        if not records:
            return
        begun = [(output, told) for output in self._outputs if (told := output.write(records)) is not None]
        for failed, told in begun:
            for output in self._outputs:
                if output is not failed:
                    output.write([told])

    def _write_rest(self) -> None:
        """Write what came in while, or after, the thread ended."""
        with self._lock:
            if self._state is not _State.SYNCHRONOUS:
                return
            records: list[Record] = []
            while not self._queue.empty():
                thing = self._queue.get_nowait()
                if isinstance(thing, dict):
                    records.append(thing)
                elif isinstance(thing, threading.Event):
                    thing.set()
            self._write(records)
            self._tell_dropped()

    def _tell_dropped(self) -> None:
        if self.dropped == self._told:
            return
        with self._lock:
            untold = self.dropped - self._told
            self._told = self.dropped
        self._write([note("records_dropped", dropped=untold, dropped_in_all=self._told)])
