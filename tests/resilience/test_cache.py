import sys
import threading

import pytest

from pixel_llm.policy import CacheConfig
from pixel_llm.resilience import CachedResult, ResultCache
from pixel_llm.testing import VirtualClock


class TestCachedResult:
    def test_grows_old(self):
        """
        Its age is what the clock has moved since it was stored.
        """
        clock = VirtualClock(100.0)
        result = CachedResult("a cat", 100.0, 60.0, clock)
        clock.advance(12.5)

        assert 12.5 == result.age_seconds()
        assert result.is_valid()

    def test_is_too_old_at_its_ttl(self):
        """
        At exactly its time to live it serves no more.
        """
        clock = VirtualClock(100.0)
        result = CachedResult("a cat", 100.0, 60.0, clock)
        clock.advance(60)

        assert not result.is_valid()


class TestResultCache:
    @pytest.fixture
    def clock(self):
        return VirtualClock(0.0)

    @pytest.fixture
    def cache(self, clock):
        return ResultCache(CacheConfig(ttl=60.0, max_entries=3), clock=clock)

    def test_gives_back_what_was_stored(self, cache):
        """
        A result comes back under its key, and under no other.
        """
        cache.store(("photo", 1), "a cat")

        assert "a cat" == cache.get(("photo", 1)).value
        assert cache.get(("photo", 2)) is None

    def test_none_is_a_result(self, cache):
        """
        None that was stored is not the same as nothing stored.
        """
        cache.store("key", None)

        assert cache.get("key") is not None
        assert cache.get("key").value is None

    @pytest.mark.parametrize(("age", "serves"), [(59.999, True), (60.0, False), (3600.0, False)])
    def test_never_serves_past_ttl(self, cache, clock, age, serves):
        """
        Up to its time to live a result serves, from then on never.
        """
        cache.store("key", "a cat")
        clock.advance(age)

        assert serves == (cache.get("key") is not None)

    def test_reading_does_not_make_younger(self, cache, clock):
        """
        The age counts from storing, however often a result is read.
        """
        cache.store("key", "a cat")
        for _ in range(6):
            clock.advance(10)
            cache.get("key")

        assert cache.get("key") is None

    def test_storing_again_makes_younger(self, cache, clock):
        """
        A newer result of the same request replaces the older one.
        """
        cache.store("key", "a cat")
        clock.advance(50)
        cache.store("key", "two cats")
        clock.advance(50)

        assert "two cats" == cache.get("key").value
        assert 50.0 == cache.get("key").age_seconds()

    def test_the_one_unused_for_longest_goes(self, cache):
        """
        When the cache is full, the result that was neither stored nor read for longest makes room.
        """
        for key in "abc":
            cache.store(key, key)
        cache.get("a")
        cache.store("d", "d")

        assert 3 == len(cache)
        assert {"a", "c", "d"} == {key for key in "abcd" if cache.get(key)}

    def test_expired_results_take_no_room(self, cache, clock):
        """
        Results too old to serve are not counted.
        """
        cache.store("a", 1)
        clock.advance(60)

        assert 0 == len(cache)

    def test_needs_a_hashable_key(self, cache):
        """
        A key that can't be hashed is the mistake of whoever wrote the key function.
        """
        with pytest.raises(TypeError, match="unhashable"):
            cache.store(["a list"], 1)

    def test_threads_may_share_it(self, cache):
        """
        Threads that read and write at once never see more than max_entries, nor another key's result.
        """
        wrong = []

        def work(number):
            for turn in range(200):
                key = (number + turn) % 7
                cache.store(key, key)
                found = cache.get(key)
                if (found is not None and found.value != key) or len(cache) > 3:
                    wrong.append(key)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)

        assert [] == wrong
