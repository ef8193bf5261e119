"""The fallback's cache: the last good results, read only after a failure."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from cachetools import TTLCache

from pixel_llm.policy import CacheConfig
from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock


@dataclass(frozen=True, slots=True)
class CachedResult:
    """A result with the moment, on *clock*, at which it was stored, and its time to live; float seconds."""

    value: Any
    stored_at: float
    ttl: float
    clock: Clock = SYSTEM_CLOCK

    def age_seconds(self) -> float:
        """How old the result is, in seconds."""
        return self.clock.monotonic() - self.stored_at

    def is_valid(self) -> bool:
        """True while it may serve."""
        return self.age_seconds() < self.ttl


class ResultCache:
    """Results by key, bounded in age and number. Safe for concurrent use."""

    def __init__(self, config: CacheConfig, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._results: TTLCache[Any, CachedResult] = TTLCache(config.max_entries, config.ttl, timer=clock.monotonic)

    def store(self, key: Any, value: Any) -> None:
        """Keep *value* under *key*, which must be hashable."""
        result = CachedResult(value, self._clock.monotonic(), self.config.ttl, self._clock)
        with self._lock:
            self._results[key] = result

    def get(self, key: Any) -> CachedResult | None:
        """The result under *key*, unless it is too old or not there."""
        with self._lock:
            result = self._results.get(key)
        return result if result is not None and result.is_valid() else None

    def __len__(self) -> int:
        with self._lock:
            return len(self._results)
