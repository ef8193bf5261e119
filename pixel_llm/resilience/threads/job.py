"""One call of a plain function in a worker thread, which its caller may leave behind."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from pixel_llm.events.trouble import report_trouble
from pixel_llm.resilience.clock import Clock
from pixel_llm.resilience.threads.abandoned import AbandonedThreads
from pixel_llm.resilience.threads.pool import WORKERS, WorkerThreads

#: Called once when the work has really ended, with what the function raised, else None.
OnEnd = Callable[[BaseException | None], object]


class Job:
    """
    A function at work in a thread that sees the context variables of its caller.

    It ends in exactly one of two ways: :meth:`result` hands over what came of it, or
    :meth:`abandon` leaves it, and what comes of it reaches nobody.

    Args:
        function: What is called.
        args: Its arguments.
        kwargs: Its keyword arguments.
        on_end: Told, in the thread, when the work has really ended: before the caller hears of it,
            or long after the caller has left. Must not block.
        tell: Called, in the thread, when the result is there.
    """

    __slots__ = (
        "_ended",
        "_error",
        "_left_to",
        "_lock",
        "_on_end",
        "_tell",
        "_value",
        "_work",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        tell: Callable[[], object],
        on_end: OnEnd | None = None,
    ) -> None:
        self._work = (contextvars.copy_context(), function, args, kwargs)
        self._tell, self._on_end = tell, on_end
        self._lock = threading.Lock()
        self._ended = False
        self._left_to: AbandonedThreads | None = None
        self._value: Any = None
        self._error: BaseException | None = None

    def start(self, name: str, workers: WorkerThreads = WORKERS) -> None:
        """
        Begin, in a thread that is called *name* meanwhile.

        Raises:
            RuntimeError: If the system has no further thread. Then the work has ended, too.
        """
        try:
            workers.run(self._run, name)
        except RuntimeError as error:
            if self._on_end is not None:
                self._on_end(error)
            raise

    def result(self) -> Any:
        """What the function returned or raised, once, after *tell* was called."""
        error, value = self._error, self._value
        self._error = self._value = None
        try:
            if error is not None:
                raise error
            return value
        finally:
            del error, self  # the error's traceback holds this frame: a cycle

    def abandon(self, left_to: AbandonedThreads, *, elapsed: float) -> bool:
        """Leave it to run on, *elapsed* seconds after it began; False if it has ended: its result is on the way."""
        with self._lock:
            if self._ended:
                return False
            self._left_to = left_to
            left_to.add(self)
        left_to.report(elapsed)
        return True

    def _run(self) -> Callable[[], object]:
        error: BaseException | None = None
        value: Any = None
        context, function, args, kwargs = self._work
        del self._work  # nothing of it may outlive the work
        try:
            value = context.run(function, *args, **kwargs)
        except BaseException as raised:  # noqa: BLE001 - it is raised again in the caller's thread
            error = raised
        del context, function, args, kwargs
        try:
            self._end(value, error)
            return self._tell
        finally:
            del error, self  # the error's traceback holds this frame: a cycle

    def _end(self, value: Any, error: BaseException | None) -> None:
        try:
            with self._lock:
                self._ended = True
                left_to = self._left_to
            if left_to is None:
                self._value, self._error = value, error
            if self._on_end is not None:
                self._on_end(error)
            if left_to is not None:
                left_to.remove(self)
        except Exception:  # noqa: BLE001 - whatever it is, the caller must hear
            # Nothing may keep the caller from hearing that the work has ended.
            report_trouble("what follows the end of a call in a worker thread failed")
        finally:
            del value, error


class WaitingJob(Job):
    """A job whose caller waits for it, and for nothing else."""

    __slots__ = ("_done",)

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        on_end: OnEnd | None = None,
    ) -> None:
        self._done = threading.Lock()
        self._done.acquire()
        super().__init__(function, args, kwargs, tell=self._done.release, on_end=on_end)

    def wait(self, ends: float, clock: Clock) -> bool:
        """True once the result is there, False when the moment *ends* comes before."""
        done = self._done.acquire
        while (remaining := ends - clock.monotonic()) > 0:
            if done(True, min(clock.patience(remaining), threading.TIMEOUT_MAX)):
                return True
        return done(False)

    def wait_to_the_end(self) -> None:
        """Wait for the result."""
        self._done.acquire()
