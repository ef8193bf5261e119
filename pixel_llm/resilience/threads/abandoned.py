"""The threads of a target that run on although their callers have left, and the limit on them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pixel_llm.errors import ErrorCode, LimitExceeded
from pixel_llm.events import AbandonedThreadEnded, ThreadAbandoned
from pixel_llm.resilience.clock import Clock
from pixel_llm.resilience.threads.forking import forget_after_fork


class AbandonedThreads:
    """
    Counts the threads of one target that nobody waits for any longer. Safe for concurrent use.

    A thread can't be stopped. Were there no limit, a function that hangs would take one more with
    every call. When *limit* of them run on, further calls are refused until one of them ends. Calls
    that are under way by then may still add theirs, so there are never more than *limit* and the
    calls under way together; with a bulkhead, whose permits they keep, never more than its
    ``max_concurrent``.

    Args:
        target: The target's name.
        limit: Threads that may run on before calls are refused.
        clock: Where time comes from.
        report: Takes an event's class and its fields after the target. It must not raise.
    """

    def __init__(self, target: str, limit: int, *, clock: Clock, report: Callable[..., object]) -> None:
        self.target = target
        self.limit = limit
        self._clock = clock
        self._report = report
        self._lock = threading.Lock()
        self._left: dict[object, float] = {}
        forget_after_fork(self)

    @property
    def count(self) -> int:
        """How many run on now."""
        return len(self._left)

    def check(self) -> None:
        """
        Ask before anything of a call begins.

        Raises:
            LimitExceeded: If too many threads run on. ``details["refused_by"]`` is ``timeout``.
        """
        if len(self._left) >= self.limit:
            raise self._refusal()

    def add(self, job: object) -> None:
        """The caller of *job* leaves it."""
        with self._lock:
            self._left[job] = self._clock.monotonic()

    def report(self, elapsed: float) -> None:
        """Say that a caller has left *elapsed* seconds after its attempt began."""
        self._report(ThreadAbandoned, elapsed, len(self._left), self.limit)

    def remove(self, job: object) -> None:
        """*job*, which was left, has ended."""
        with self._lock:
            left = self._left.pop(job, None)
            count = len(self._left)
        if left is not None:  # else it began before a fork, in whose child it never ends
            self._report(AbandonedThreadEnded, self._clock.monotonic() - left, count, self.limit)

    def forget(self) -> None:
        """Forget the threads of the process that this one was forked from."""
        self._lock = threading.Lock()
        self._left = {}

    def _refusal(self) -> LimitExceeded:
        with self._lock:
            count, first = len(self._left), min(self._left.values(), default=self._clock.monotonic())
        longest = f"{self._clock.monotonic() - first:.1f} s"
        threads = "a thread runs" if count == 1 else f"{count} threads run"
        text = (
            f"{threads} on after the time was up, the longest for {longest} so far, and the limit is {self.limit}: "
            "give what the function waits for a timeout of its own, or raise timeout.max_abandoned_threads"
        )
        details = {"refused_by": "timeout", "abandoned_threads": count, "max_abandoned_threads": self.limit}
        return LimitExceeded(text, error_code=ErrorCode.ERR_LIMIT_BULKHEAD, target=self.target, details=details)
