"""What results are kept in, against a model of it: a list of entries, the one unused for longest first."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pixel_llm.policy import CacheConfig
from pixel_llm.resilience.caching.cache import ResultCache
from pixel_llm.testing import VirtualClock

TTL = 10.0
KEYS = "abcdef"


class CacheMachine(RuleBasedStateMachine):
    """Results are stored under six keys, looked up, and grow old."""

    @initialize(max_entries=st.integers(1, 4), room=st.sampled_from([1, 2, 3, 10]))
    def begin(self, max_entries, room):
        self.clock = VirtualClock(0.0)
        self.max_entries, self.max_bytes = max_entries, room * 2000
        config = CacheConfig(ttl=TTL, max_entries=max_entries, max_bytes=self.max_bytes)
        self.cache = ResultCache(config, clock=self.clock)
        self.entries = []  # (key, value, the moment of its storing), the one unused for longest first

    def _entry(self, key):
        return next((entry for entry in self.entries if entry[0] == key), None)

    @staticmethod
    def _size(entry):
        """What an entry takes, as a cache says that holds nothing else."""
        alone = ResultCache(CacheConfig())
        alone.store(*entry[:2])
        return alone.memory()

    def _forget_what_is_too_old(self):
        self.entries = [entry for entry in self.entries if self.clock.monotonic() - entry[2] < TTL]

    @rule(key=st.sampled_from(KEYS), size=st.sampled_from([1, 500, 1300, 3000, 30_000]))
    def store(self, key, size):
        value = bytes(size)
        self.cache.store(key, value)

        entry = (key, value, self.clock.monotonic())
        if self._size(entry) > self.max_bytes:
            return
        self._forget_what_is_too_old()
        known = self._entry(key)
        if known is not None:
            self.entries.remove(known)
        room = self.max_bytes - self._size(entry)
        while len(self.entries) >= self.max_entries or sum(map(self._size, self.entries)) > room:
            self.entries.pop(0)
        self.entries.append(entry)

    @rule(key=st.sampled_from(KEYS))
    def look_up(self, key):
        self._forget_what_is_too_old()
        known, found = self._entry(key), self.cache.get(key)

        assert (known is None) == (found is None)
        if known is not None:
            assert known[1] is found.value
            assert self.clock.monotonic() - known[2] == found.age_seconds() < TTL
            self.entries.remove(known)
            self.entries.append(known)

    @rule(seconds=st.sampled_from([1.0, 4.0, 5.0, TTL]))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @invariant()
    def keeps_its_bounds(self):
        self._forget_what_is_too_old()
        assert len(self.entries) == len(self.cache) <= self.max_entries
        assert sum(map(self._size, self.entries)) == self.cache.memory() <= self.max_bytes


TestCacheAgainstItsModel = CacheMachine.TestCase
TestCacheAgainstItsModel.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
