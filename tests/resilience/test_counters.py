import asyncio
import contextlib
import itertools
import math
import threading

import pytest

from pixel_llm.errors import CircuitBreakerOpen
from pixel_llm.policy import BulkheadConfig, CircuitBreakerConfig, Jitter, RetryConfig, RetryStrategy, TimeoutConfig
from pixel_llm.resilience import guard
from pixel_llm.resilience.counters import BOUNDS, Counters, Histogram


class TestHistogram:
    @pytest.mark.parametrize(
        ("seconds", "bucket"),
        [
            (0.0, 0),
            (0.9e-6, 0),
            (1.1e-6, 1),
            (3e-6, 2),
            (1.0, 20),
            (BOUNDS[20] - 1e-6, 20),
            (1000.0, 30),
            (1e5, 31),
            (1e9, 31),
            (1e12, 31),
        ],
    )
    def test_each_time_has_its_bucket(self, seconds, bucket):
        """
        A time lies below the bound of its bucket, and not below the one before; all above have the last one.
        """
        counters = Counters()
        counters.record_success(seconds)
        counts = counters.latency().counts

        assert len(BOUNDS) + 1 == len(counts)
        assert 1 == counters.successes() == counters.succeeded_at_once()
        assert [bucket] == [number for number, count in enumerate(counts) if count]
        assert bucket == len(BOUNDS) or seconds < BOUNDS[bucket]
        assert bucket == 0 or seconds >= BOUNDS[bucket - 1]

    def test_quantiles(self):
        """
        A quantile is spread evenly within its bucket.
        """
        histogram = Histogram((1.0, 2.0, 4.0), (0, 4, 4, 0))

        assert (1.0, 1.5, 2.0, 3.0, 4.0) == tuple(histogram.quantile(share) for share in (0, 0.25, 0.5, 0.75, 1))

    def test_quantile_beyond_the_bounds(self):
        """
        Of what took longer than the last bound, no more is known than that.
        """

        assert 4.0 == Histogram((1.0, 2.0, 4.0), (0, 0, 0, 3)).quantile(0.5)

    def test_without_calls(self):
        """
        Nothing happened, nothing is known.
        """
        empty = Counters().latency()

        assert (0, None) == (empty.count, empty.quantile(0.5))


class TestStats:
    def test_of_a_stack(self, both_worlds):
        """
        Calls that succeeded at once, after a retry, and not at all.
        """
        policy = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=2, jitter=Jitter.NONE)
        call = both_worlds("one", ConnectionError(), "two", ConnectionError(), retry=policy)
        call()
        call()
        with pytest.raises(ConnectionError):
            call()
        stats = call.stack.stats()

        assert (2, 1) == (stats.succeeded, stats.failed)
        assert 2 == stats.latency.count
        assert {
            "attempt_failed": 3,
            "retry_scheduled": 2,
            "call_recovered": 1,
            "call_failed": 1,
        } == stats.happened

    def test_of_refused_calls(self, both_worlds):
        """
        A refused call is a failed one.
        """
        call = both_worlds(ConnectionError(), circuit_breaker=CircuitBreakerConfig(failure_threshold=1))
        for _ in range(3):
            with pytest.raises((ConnectionError, CircuitBreakerOpen)):
                call()
        stats = call.stack.stats()

        assert (0, 3) == (stats.succeeded, stats.failed)
        assert 2 == stats.happened["call_refused"]
        assert 2 == call.stack.counters.happened("call_refused")
        assert 0 == call.stack.counters.happened("fallback_served")

    def test_whole_outcomes_count_too(self, both_worlds):
        """
        It is the call that counts, not how it is made.
        """
        call = both_worlds("fine")
        call.outcome()
        call()

        assert 2 == call.stack.stats().succeeded

    @pytest.mark.parametrize(
        "layers",
        [{}, {"bulkhead": BulkheadConfig(max_concurrent=1)}, {"timeout": TimeoutConfig(attempt=9.0)}],
        ids=["alone", "bulkhead", "timeout"],
    )
    def test_durations(self, both_worlds, clock, layers):
        """
        A success took as long as it took, whichever way it went.
        """
        call = both_worlds(lambda: clock.advance(0.3), **layers)
        call()
        latency = call.stack.stats().latency
        bounds = (0.0, *latency.bounds, math.inf)
        (bucket,) = [bounds[index : index + 2] for index, count in enumerate(latency.counts) if count]

        assert bucket[0] <= 0.3 < bucket[1]

    def test_exact_under_threads(self, make_stack, world):
        """
        Not one of 80,000 successes and 8,000 failures of 8 threads is lost.
        """
        stack = make_stack()
        numbers = itertools.count()

        def body():
            if next(numbers) % 11 == 0:
                raise KeyError

        guarded = guard(stack, world.function(body), cooperative=True)

        async def many_async():
            for _ in range(11_000):
                with contextlib.suppress(KeyError):
                    await guarded()

        def many():
            if world.name == "async":
                asyncio.run(many_async())
                return
            for _ in range(11_000):
                with contextlib.suppress(KeyError):
                    guarded()

        threads = [threading.Thread(target=many) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert (80_000, 8_000) == (stack.stats().succeeded, stack.stats().failed)
        assert 80_000 == stack.counters.successes()
