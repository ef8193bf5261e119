"""A plain sync function with a timeout runs in a thread of its own, since nothing can interrupt it."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from pixel_llm.resilience.limits import current_limits, get_published
from pixel_llm.resilience.stack import Stack


def in_worker(stack: Stack, function: Callable[..., Any]) -> Callable[..., Any]:
    """
    Make *function* return in time.

    When the time is up the caller gets a TimeoutError, while the thread, which can't be
    stopped, runs on until the function ends; its result is dropped. The thread sees the
    context variables of the caller and is a daemon, so it doesn't keep the process alive.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        job = _Job(function, args, kwargs)
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(job.run,), name=f"pixel-llm {stack.target}", daemon=True).start()
        if not job.wait():
            raise stack.cut(get_published())
        return job.result()

    return call


class _Job:
    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._function, self._args, self._kwargs = function, args, kwargs
        self._done = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._value = self._function(*self._args, **self._kwargs)
        except BaseException as error:  # noqa: BLE001 - it is raised again in the caller's thread
            self._error = error
        finally:
            self._done.set()
            del self  # the error's traceback holds this frame: a cycle

    def wait(self) -> bool:
        """True once the function has ended, False when the time is up before."""
        limits = current_limits()
        while (remaining := limits.remaining()) is None or remaining > 0:
            if self._done.wait(None if remaining is None else limits.clock.patience(remaining)):
                return True
        return self._done.is_set()

    def result(self) -> Any:
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
            return self._value
        finally:
            del error  # its traceback holds this frame: a cycle
