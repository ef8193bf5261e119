"""A plain sync function with a timeout runs in a worker thread, since nothing can interrupt it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pixel_llm.resilience.limits import get_published
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.threads.job import OnEnd, WaitingJob


class InWorker:
    """
    A plain *function* that returns in time. Safe for concurrent use.

    When the time of the attempt is up the caller gets a TimeoutError, while the thread, which can't be
    stopped, runs on until the function ends; its result is dropped. The thread sees the context variables
    of the caller and doesn't keep the process alive. Threads are reused: calling one that waits for work
    costs two turns of the system's scheduler, starting one as much again.
    """

    __slots__ = ("_function", "_name", "_stack")

    def __init__(self, stack: Stack, function: Callable[..., Any]) -> None:
        self._stack, self._function = stack, function
        self._name = f"pixel-llm {stack.target}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function within the limits that are published."""
        return self.run(args, kwargs)

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any], on_end: OnEnd | None = None) -> Any:
        """
        Like calling it.

        Args:
            args: The positional arguments.
            kwargs: The keyword arguments.
            on_end: Told once, in the thread, when the function has really ended, with what it raised, else
                None: before the caller hears of it, or long after the caller has left.
        """
        stack, clock = self._stack, self._stack.clock
        limits, begun = get_published(), clock.monotonic()
        job = WaitingJob(self._function, args, kwargs, on_end=on_end)
        job.start(self._name)
        try:
            in_time = job.wait(limits[0], clock)
        except BaseException:  # KeyboardInterrupt, while it waits
            job.abandon(stack.abandoned_threads, elapsed=clock.monotonic() - begun)
            raise
        if not in_time:
            if job.abandon(stack.abandoned_threads, elapsed=clock.monotonic() - begun):
                raise stack.timing.cut(limits)
            job.wait_to_the_end()  # it has ended, and its result is on the way
        return job.result()
