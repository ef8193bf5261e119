"""Something that one thread does at a time, while the others wait for as long as they have time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from pixel_llm.errors import ErrorCode, TimeoutError
from pixel_llm.resilience.limits import current_limits
from pixel_llm.resilience.threads.forking import forget_after_fork


class Turns:
    """
    A lock that is waited for within the limits of the call under way. Safe for concurrent use, and after fork.

    Args:
        what: What is done by turns, for the error of whoever can't wait any longer.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()
        forget_after_fork(self)

    @contextlib.contextmanager
    def mine(self) -> Iterator[None]:
        """
        Within, it is the caller's turn.

        Raises:
            TimeoutError: If it did not come in time.
        """
        lock = self._lock
        self._wait(lock)
        try:
            yield
        finally:
            lock.release()

    def _wait(self, lock: threading.Lock) -> None:
        while True:
            limits = current_limits()
            remaining = limits.remaining()
            if remaining is None:
                remaining = threading.TIMEOUT_MAX
            if lock.acquire(timeout=min(limits.clock.patience(remaining), threading.TIMEOUT_MAX)):
                return
            if remaining <= 0:
                break
        is_deadline = limits.deadline_passed()
        raise TimeoutError(
            f"another call was still busy with {self._what} when the time was up",
            error_code=ErrorCode.ERR_TIMEOUT_DEADLINE if is_deadline else ErrorCode.ERR_TIMEOUT_REQUEST,
        )

    def forget(self) -> None:
        """Forget who was at it in the process that this one was forked from."""
        self._lock = threading.Lock()
