"""Where the chunks of a sync stream come from: an iterator, run here or in a thread of its own."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable, Iterator
from math import inf
from queue import Empty, SimpleQueue
from typing import Any

from pixel_llm.errors import ValidationError
from pixel_llm.resilience.limits import Published, set_published
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.streams.delivery import END, Cut
from pixel_llm.resilience.threads.pool import WORKERS

#: Opens the stream: gives an iterator.
Open = Callable[[], Any]

#: Told when the stream's code has really ended; more than once, maybe.
OnEnd = Callable[[], object]


class Steps:
    """
    The steps of an iterator, each in the same context: that of its first consumer, with *limits* in it.

    What the code changes there stays there, so the consumer's own context variables are left alone.
    """

    def __init__(self, stack: Stack, open_stream: Open, limits: Published) -> None:
        self._context = contextvars.copy_context()
        self._context.run(set_published, limits)
        self._stack = stack
        self._open: Open | None = open_stream
        self._opened: Any = None
        self._iterator: Iterator[Any] = iter(())

    def next(self) -> Any:
        """The next chunk, or :data:`END`."""
        return self._context.run(self._step)

    def close(self) -> None:
        """End the iterator, wherever it is."""
        opened, self._opened, self._open = self._opened, None, None
        self._iterator = iter(())
        close = getattr(opened, "close", None)
        if callable(close):
            self._context.run(close)

    def _step(self) -> Any:
        if self._open is not None:
            opened, self._open = self._open(), None
            if hasattr(opened, "__anext__"):
                raise ValidationError(
                    "the function is sync, but its stream is async: make it a coroutine function",
                    target=self._stack.target,
                )
            self._opened = opened
            # What is no iterator is a stream of one chunk.
            self._iterator = opened if hasattr(opened, "__next__") else iter((opened,))
        return next(self._iterator, END)


class SyncSource:
    """
    A stream whose code runs where it is asked. Nothing can interrupt it.

    Args:
        steps: The steps.
        on_end: Told when its code has ended.
    """

    def __init__(self, steps: Steps, on_end: OnEnd) -> None:
        self._steps, self._on_end = steps, on_end

    def next(self, limits: Published, cut: Cut) -> Any:
        """The next chunk, or :data:`END`. It can't be cut when *limits* end."""
        try:
            chunk = self._steps.next()
        except BaseException:
            with contextlib.suppress(Exception):  # what it failed of first is the news
                self.close()
            raise
        if chunk is END:
            self.close()
        return chunk

    def close(self, ends: float = inf) -> None:
        """End the stream's code. It can't be cut at the moment *ends*."""
        try:
            self._steps.close()
        finally:
            self._on_end()

    def drop(self) -> None:
        """End it where a finaliser runs, as Python itself would do."""
        self.close()


class ThreadSource:
    """
    A stream whose code runs in a thread of its own, from the first step to the last.

    The thread works only when it is asked for a chunk. When the time is up it is left behind: as soon as the step
    ends, it ends the stream's code. See :class:`SyncSource` for the arguments.
    """

    def __init__(self, stack: Stack, steps: Steps, on_end: OnEnd) -> None:
        self._stack, self._clock = stack, stack.clock
        self._server = _Server(steps, on_end, stack)
        try:
            WORKERS.run(self._server.serve, f"pixel-llm {stack.target}")
        except RuntimeError:  # the system has no further thread
            on_end()
            raise

    def next(self, limits: Published, cut: Cut) -> Any:
        """The next chunk, or :data:`END`, or the error that *cut* makes when *limits* have ended."""
        begun = self._clock.monotonic()
        self._server.asked.put(True)
        try:
            answer = self._wait(limits[0])
        except BaseException:  # KeyboardInterrupt, while it waits
            self._server.leave(self._clock.monotonic() - begun)
            self.drop()
            raise
        if answer is None:
            answer = self._server.leave(self._clock.monotonic() - begun)
        if answer is None:
            raise cut(limits)
        try:
            return _result(*answer)
        finally:
            del answer  # an error in it has a traceback that holds this frame: a cycle

    def close(self, ends: float = inf) -> None:
        """End the stream's code, and wait for that until the moment *ends* at most."""
        begun = self._clock.monotonic()
        self.drop()
        answer = self._wait(ends) or self._server.leave(self._clock.monotonic() - begun)
        try:
            if answer is not None:
                _result(*answer)
        finally:
            del answer  # as above

    def drop(self) -> None:
        """End the stream's code, and wait for nothing."""
        self._server.asked.put(False)

    def _wait(self, ends: float) -> tuple[Any, BaseException | None] | None:
        answers, clock = self._server.answers, self._clock
        while (remaining := ends - clock.monotonic()) > 0:
            try:
                return answers.get(timeout=min(clock.patience(remaining), threading.TIMEOUT_MAX))
            except Empty:
                continue
        return None


class _Server:
    """What a thread of :class:`ThreadSource` runs. It knows nothing of who asks, and so keeps nothing of it alive."""

    def __init__(self, steps: Steps, on_end: OnEnd, stack: Stack) -> None:
        # Queues that a finaliser may put into wherever it runs.
        self.asked: SimpleQueue[bool] = SimpleQueue()
        self.answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self.ended = False
        self._steps, self._on_end, self._stack = steps, on_end, stack
        self._lock = threading.Lock()
        self._is_left = False

    def serve(self) -> Callable[[], object]:
        """Answer until the stream has ended, or nobody asks any more."""
        chunk, error = END, None
        while self.asked.get():
            try:
                chunk = self._steps.next()
            except BaseException as raised:  # noqa: BLE001 - it is raised again where it was asked for
                chunk, error = END, raised
            with self._lock:
                if chunk is END or self._is_left:
                    break
                self.answers.put((chunk, None))
            chunk = END
        try:
            self._steps.close()
        except BaseException as raised:  # noqa: BLE001 - as above
            error = error or raised
        with self._lock:
            self.ended = True
            is_left = self._is_left
        try:
            self._on_end()
            if is_left:
                self._stack.abandoned_threads.remove(self)
            return functools.partial(self.answers.put, (END, error))
        finally:
            del error, self

    def leave(self, elapsed: float) -> tuple[Any, BaseException | None] | None:
        """Leave a step that has taken *elapsed* seconds; or, if its answer is there after all, give that."""
        with self._lock:
            if not self.answers.empty():
                return self.answers.get()
            if not self.ended:
                self._is_left = True
                self._stack.abandoned_threads.add(self)
                self.asked.put(False)
        if self._is_left:
            self._stack.abandoned_threads.report(elapsed)
            return None
        return self.answers.get()  # it is on its way


def _result(chunk: Any, error: BaseException | None) -> Any:
    try:
        if error is not None:
            raise error
        return chunk
    finally:
        del error  # its traceback holds this frame: a cycle
