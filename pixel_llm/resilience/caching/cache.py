"""Good results, kept for later: for the fallback, which reads them after a failure, and for the read-through layer."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from cachetools import TTLCache

from pixel_llm.policy import CacheConfig
from pixel_llm.resilience.caching.memory import memory_size
from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock

#: What an entry takes beside its key and value: the cache's own links, times and the record around it. Bytes.
_OVERHEAD = 600


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
    """
    Results by key, bounded in age, number and memory. Safe for concurrent use.

    A result that alone is larger than the bound is not kept; an older one under its key stays for the rest of its time.
    """

    def __init__(self, config: CacheConfig, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._results: TTLCache[Any, tuple[CachedResult, int]] = TTLCache(
            config.max_bytes, config.ttl, timer=clock.monotonic, getsizeof=itemgetter(1)
        )

    def store(self, key: Any, value: Any) -> None:
        """Keep *value* under *key*, which must be hashable."""
        result = CachedResult(value, self._clock.monotonic(), self.config.ttl, self._clock)
        size = memory_size((key, value)) + _OVERHEAD
        if size > self.config.max_bytes:
            return
        with self._lock:
            while len(self._results) >= self.config.max_entries and key not in self._results:
                self._results.popitem()
            self._results[key] = (result, size)

    def get(self, key: Any) -> CachedResult | None:
        """The result under *key*, unless it is too old or not there."""
        with self._lock:
            found = self._results.get(key)
        return found[0] if found is not None and found[0].is_valid() else None

    def __len__(self) -> int:
        with self._lock:
            return len(self._results)

    def memory(self) -> int:
        """The memory of what is kept, estimated, in bytes."""
        with self._lock:
            return int(self._results.currsize)


class LazyCache:
    """A :class:`ResultCache` that is made when it is first needed. Safe for concurrent use."""

    __slots__ = ("_clock", "_made", "config")

    def __init__(self, config: CacheConfig, clock: Clock) -> None:
        self.config = config
        self._clock = clock
        self._made: dict[str, ResultCache] = {}

    def get(self) -> ResultCache:
        """The cache."""
        # setdefault() is atomic, so that two threads get the same one.
        return self._made.get("cache") or self._made.setdefault("cache", ResultCache(self.config, clock=self._clock))


def is_used_up(value: Any) -> bool:
    """True if *value* can be read only once, such as a stream: it is of no use to a second caller."""
    return isinstance(value, Iterator | AsyncIterator)
