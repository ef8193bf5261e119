"""The adaptive limit converges to what its target can take, and stays within its bounds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import LoopClock, run_virtual

from pixel_llm.errors import APIError, CircuitBreakerOpen, ErrorCode, LimitExceeded, TimeoutError
from pixel_llm.policy import AdaptiveConfig, BulkheadConfig
from pixel_llm.resilience import Bulkhead
from pixel_llm.resilience.queues.adaptive import AdaptiveLimit, is_drop


def sample(limit: AdaptiveLimit, ok: bool | None, *, now: float = 10.0, elapsed: float | None = 1.0) -> int:
    return limit.sample(elapsed, ok, in_use=limit.limit, now=now)


class TestSamples:
    def test_grows_by_one_in_a_round(self):
        """
        As many successes as the limit allows at once let it grow by about one.
        """
        limit = AdaptiveLimit(AdaptiveConfig(initial_limit=4), 100)

        limits = [sample(limit, True) for _ in range(10)]

        assert limits == [4, 4, 4, 4, 5, 5, 5, 5, 5, 6]

    def test_sinks_once_for_each_decrease(self):
        """
        Drops of calls that began before the last decrease are of the limit that was too high.
        """
        limit = AdaptiveLimit(AdaptiveConfig(initial_limit=10, backoff_ratio=0.5), 100)

        assert sample(limit, False, now=10.0) == 5
        assert sample(limit, False, now=10.5) == 5
        assert sample(limit, False, now=11.0) == 2

    def test_slow_calls_are_drops(self):
        """
        A success that took too long is a sign of overload.
        """
        limit = AdaptiveLimit(AdaptiveConfig(initial_limit=10, slow_call_duration=2.0), 100)

        assert sample(limit, True, elapsed=2.0) == 10
        assert sample(limit, True, elapsed=2.5) == 9

    def test_what_proves_nothing(self):
        """
        Neutral ends, and calls that never got to the target, change nothing.
        """
        limit = AdaptiveLimit(AdaptiveConfig(initial_limit=10), 100)

        assert sample(limit, None) == sample(limit, False, elapsed=None) == 10
        assert limit.sample(1.0, True, in_use=4, now=1.0) == 10
        assert limit._estimate == 10.0

    @given(
        st.lists(st.tuples(st.booleans() | st.none(), st.floats(0, 5), st.integers(0, 30))),
        st.integers(1, 20),
        st.integers(1, 40),
        st.floats(0.1, 0.99),
    )
    def test_bounds(self, samples: Any, minimum: int, initial: int, ratio: float):
        """
        Whatever happens, the limit stays between min_limit and max_concurrent.
        """
        limit = AdaptiveLimit(
            AdaptiveConfig(min_limit=minimum, initial_limit=max(initial, minimum), backoff_ratio=ratio), 20
        )
        now = 0.0
        for ok, elapsed, in_use in samples:
            now += elapsed
            assert minimum <= limit.sample(elapsed, ok, in_use=in_use, now=now) <= 20


@pytest.mark.parametrize(
    ("error", "drop"),
    [
        (TimeoutError(), True),
        (TimeoutError(error_code=ErrorCode.ERR_TIMEOUT_DEADLINE), True),
        (APIError(error_code=ErrorCode.ERR_API_OVERLOAD), True),
        (APIError(error_code=ErrorCode.ERR_API_RATE_LIMIT), True),
        (APIError(error_code=ErrorCode.ERR_API_SERVER_ERROR), False),
        (APIError(error_code=ErrorCode.ERR_API_BAD_REQUEST), False),
        (LimitExceeded(), False),
        (LimitExceeded(error_code=ErrorCode.ERR_LIMIT_BULKHEAD), False),
        (CircuitBreakerOpen(), False),
        (ConnectionRefusedError(), False),
        (KeyError(), False),
        (asyncio.CancelledError(), False),
    ],
)
def test_what_is_a_drop(error: BaseException, drop: bool):
    """
    Timeouts, overload errors and 429 are; refusals of our own layers and mistakes are not.
    """
    assert is_drop(error) is drop


@given(st.integers(1, 12), st.integers(1, 30), st.sampled_from([0.5, 0.8, 0.9]))
@settings(max_examples=25, deadline=None)
def test_converges(capacity: int, initial: int, ratio: float):
    """
    Against a server that refuses what is beyond its capacity C, the limit ends between ratio · C - 1 and C + 1.
    """
    clock = LoopClock(0.0)
    adaptive = AdaptiveConfig(initial_limit=initial, backoff_ratio=ratio)
    slots = Bulkhead("shop.pay", BulkheadConfig(max_concurrent=30, max_waiting=100, adaptive=adaptive), clock=clock)
    in_server = 0
    limits: list[int] = []

    async def client(phase: float) -> None:
        nonlocal in_server
        await asyncio.sleep(phase)
        for _ in range(100):
            await slots.enter_async()
            in_server += 1
            overloaded = in_server > capacity
            await asyncio.sleep(0.01 if overloaded else 1.0)
            in_server -= 1
            slots.leave(0.01 if overloaded else 1.0, not overloaded)
            if clock.monotonic() > 60:
                limits.append(slots.limit)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(client(number / 40) for number in range(40)))

    run_virtual(clock, main())

    assert min(limits) >= max(1, int(ratio * capacity) - 1)
    assert max(limits) <= capacity + 1
