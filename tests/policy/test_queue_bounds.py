"""The bounds of targets in whose layers calls queue: many calls at once, played to the real stack."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import LoopClock, run_virtual

from pixel_llm.cli.policy.words import compare_bounds, explain_bounds
from pixel_llm.policy import (
    AdaptiveConfig,
    BulkheadConfig,
    CircuitBreakerConfig,
    PolicyConfig,
    RateLimitConfig,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
    TokenLimitConfig,
)
from pixel_llm.policy.bounds import CHAT, GENERATE, Bounds, compute_bounds
from pixel_llm.resilience import Stack, guard

TARGET = "shop.pay"


def bounds_of(rate: float = 1.0, **layers: Any) -> Bounds:
    return compute_bounds(PolicyConfig(version=1, targets={TARGET: TargetPolicy(**layers)}), TARGET, rate=rate)


halves = st.integers(0, 4).map(lambda number: number / 2)
limits = (
    st.builds(RateLimitConfig, max_calls=st.integers(1, 3), period=st.sampled_from([0.5, 2.0]), max_wait=halves)
    | st.none()
)
bulkheads = (
    st.builds(
        BulkheadConfig,
        max_concurrent=st.integers(1, 3),
        max_waiting=st.integers(0, 4),
        max_wait=st.sampled_from([0.5, 1.5, None]),
    )
    | st.none()
)


@given(
    limits, bulkheads, st.sampled_from([None, 2.0, 30.0]), st.integers(1, 3), st.lists(halves, min_size=1, max_size=8)
)
@settings(max_examples=60, deadline=None)
def test_latency_is_never_exceeded(limit: Any, bulkhead: Any, deadline: Any, attempts: int, arrivals: list[float]):
    """
    Whatever the other callers do, no call takes longer than its attempts, its waits and its queues together.
    """
    clock = LoopClock(1024.0)
    policy = TargetPolicy(
        deadline=deadline,
        retry=RetryConfig(strategy=RetryStrategy.FIXED_DELAY, initial_delay=0.5, max_attempts=attempts),
        rate_limit=limit,
        bulkhead=bulkhead,
        timeout=TimeoutConfig(attempt=1.0),
    )
    bound = compute_bounds(PolicyConfig(version=1, targets={TARGET: policy}), TARGET).worst_latency
    took: list[float] = []

    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    call = guard(Stack(TARGET, policy, clock=clock), hang)

    async def arrive(at: float) -> None:
        await asyncio.sleep(at)
        started = clock.monotonic()
        with pytest.raises(Exception, match=TARGET):
            await call()
        took.append(clock.monotonic() - started)

    async def main() -> None:
        await asyncio.gather(*(arrive(at) for at in arrivals))

    run_virtual(clock, main())

    assert bound is None or max(took) <= bound + 0.02  # a virtual clock is looked at every 5 ms


class TestLatency:
    def test_queues_are_part_of_it(self):
        """
        Each attempt may wait for its turn and for its slot.
        """
        bounds = bounds_of(
            timeout=TimeoutConfig(attempt=10.0),
            rate_limit=RateLimitConfig(max_calls=1, max_wait=2.0),
            bulkhead=BulkheadConfig(max_waiting=1, max_wait=3.0),
        )

        assert bounds.worst_latency == 15.0

    def test_nobody_waits(self):
        """
        Without a queue there is no wait.
        """
        assert bounds_of(timeout=TimeoutConfig(attempt=1.0), bulkhead=BulkheadConfig()).worst_latency == 1.0

    def test_endless_queue(self):
        """
        Only the deadline bounds a wait that has no limit of its own.
        """
        layers = {"timeout": TimeoutConfig(attempt=1.0), "bulkhead": BulkheadConfig(max_waiting=1)}

        assert bounds_of(**layers).worst_latency is None
        assert bounds_of(deadline=9.0, **layers).worst_latency == 9.0


LAYERS: dict[str, Any] = {"circuit_breaker": CircuitBreakerConfig(), "timeout": TimeoutConfig(attempt=2.0)}


class TestOpening:
    @pytest.mark.parametrize(
        ("layers", "held_back"),
        [
            ({"bulkhead": BulkheadConfig(max_concurrent=2)}, True),
            ({"bulkhead": BulkheadConfig(max_concurrent=3)}, False),
            ({"bulkhead": BulkheadConfig(max_concurrent=3, adaptive=AdaptiveConfig())}, True),
            ({"rate_limit": RateLimitConfig(max_calls=3, period=1.0)}, True),
            ({"rate_limit": RateLimitConfig(max_calls=4, period=1.0)}, False),
            ({"rate_limit": RateLimitConfig(max_calls=9, tokens=TokenLimitConfig())}, True),
            ({}, False),
        ],
    )
    def test_layers_that_hold_calls_back(self, layers: dict[str, Any], held_back: bool):
        """
        Where calls may be refused or wait at this rate, nobody can say when the breaker opens.
        """
        bounds = bounds_of(**LAYERS, **layers)

        assert bounds.held_back is held_back
        assert (bounds.opens_after is None) is held_back

    def test_in_words(self):
        """
        And so it is said, rather than "never".
        """
        bounds = bounds_of(**LAYERS, bulkhead=BulkheadConfig(max_concurrent=1))

        assert explain_bounds(bounds, has_breaker=True)[1:] == [
            ("breaker opens", "nobody can say when: the rate limit or the bulkhead may hold calls back")
        ]
        assert "can't be said" in compare_bounds(bounds, has_breaker=True).values()

    def test_inside_generate(self):
        """
        A queue in what generate() calls holds its calls back, too.
        """
        targets = {GENERATE: TargetPolicy(**LAYERS), CHAT: TargetPolicy(bulkhead=BulkheadConfig())}

        assert compute_bounds(PolicyConfig(version=1, targets=targets), GENERATE).held_back
