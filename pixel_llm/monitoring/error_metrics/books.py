"""The ledger and those who wait to write into it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from pixel_llm.monitoring.error_metrics.ledger import Ledger

T = TypeVar("T")


class Books:
    """
    A ledger that many write into. Safe for concurrent use.

    Entering never waits: what comes while somebody is at the ledger is put down, and entered by that one when he lets
    go of it. So a finaliser may enter something, even in a thread that is at the ledger itself.

    Args:
        history: Points that are kept of each type.
        before_answers: Called with the ledger before each question, while nobody else is at it.
    """

    def __init__(self, history: int, before_answers: Callable[[Ledger], None]) -> None:
        self._history = history
        self._before_answers = before_answers
        self._ledger = Ledger(history)
        self._mail: deque[Callable[[Ledger], None]] = deque()
        self._lock = threading.Lock()

    def enter(self, entry: Callable[[Ledger], None]) -> None:
        """Have *entry* made."""
        self._mail.append(entry)
        self._tidy()

    def ask(self, question: Callable[[Ledger], T]) -> T:
        """The answer to *question*, all that was entered until now included."""
        with self._lock:
            self._before_answers(self._ledger)
            self._enter_mail()
            answer = question(self._ledger)
        self._tidy()
        return answer

    def begin_anew(self) -> None:
        """Forget everything."""
        with self._lock:
            self._before_answers(self._ledger)
            self._enter_mail()
            self._ledger = Ledger(self._history)
        self._tidy()

    def forget(self) -> None:
        """In a forked child: a lock that a thread of the parent held is never given back."""
        self._lock = threading.Lock()

    def _tidy(self) -> None:
        # Whoever lets go of the lock looks again afterwards: one of the two sees the entry.
        while self._mail and self._lock.acquire(blocking=False):
            try:
                self._enter_mail()
            finally:
                self._lock.release()

    def _enter_mail(self) -> None:
        while self._mail:
            self._mail.popleft()(self._ledger)
