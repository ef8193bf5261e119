"""How the calls of one model have ended."""

from __future__ import annotations

import threading
from collections import Counter

from pixel_llm.errors import classify_error
from pixel_llm.hybrid.result import CaptionResult


class CallCounts:
    """Counts calls by how they ended. Safe for concurrent use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begin()

    def ended(self, how: CaptionResult | Exception) -> None:
        """One more has ended: with a caption, or with an error."""
        with self._lock:
            self._total += 1
            if isinstance(how, CaptionResult):
                self._degraded += how.degraded
                error = how.error
            else:
                self._failed += 1
                error = how
            if error is not None:
                self._errors[str(classify_error(error).error_code or type(error).__name__)] += 1

    def snapshot(self) -> dict[str, object]:
        """The counts, all of the same moment."""
        with self._lock:
            served = self._total - self._failed
            return {
                "total_requests": self._total,
                "successful_requests": served,
                "degraded_requests": self._degraded,
                "failed_requests": self._failed,
                "success_rate": served / self._total if self._total else 1.0,
                "error_counts": dict(self._errors),
            }

    def reset(self) -> None:
        """Begin anew."""
        with self._lock:
            self._begin()

    def _begin(self) -> None:
        self._total = self._failed = self._degraded = 0
        self._errors: Counter[str] = Counter()
