"""Rate limit and bulkhead as layers of a stack, in both worlds, with the layers around them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from virtual_time import LoopClock, run_virtual

from pixel_llm.errors import CircuitBreakerOpen, ErrorCode, LimitExceeded, TimeoutError
from pixel_llm.events import CallFailed, CallQueued, CallRefused
from pixel_llm.policy import (
    AdaptiveConfig,
    BulkheadConfig,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    RateLimitConfig,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
    TokenLimitConfig,
)
from pixel_llm.resilience import Stack, guard

IMMEDIATE = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=3)
ONE_AT_ONCE = BulkheadConfig(max_concurrent=1)
ONE_A_SECOND = RateLimitConfig(max_calls=1, period=1.0)


def in_use(stack: Stack) -> int:
    assert stack.admission is not None
    assert stack.admission.bulkhead is not None
    return stack.admission.bulkhead.in_use


def wait_until(condition: Any) -> None:
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.0005)


class TestLayers:
    def test_order(self, make_stack: Callable[..., Stack]):
        """
        They stand between the breaker and the timeout, and say what they do.
        """
        stack = make_stack(
            bulkhead=BulkheadConfig(max_concurrent=4, adaptive=AdaptiveConfig()),
            rate_limit=RateLimitConfig(max_calls=10, max_wait=2.0, tokens=TokenLimitConfig()),
            circuit_breaker=CircuitBreakerConfig(),
            timeout=TimeoutConfig(attempt=1.0),
        )

        names = [layer.name for layer in stack.describe()]

        assert names == ["circuit_breaker", "rate_limit", "bulkhead", "timeout", "call"]
        assert [name for name, _ in stack.policy.layers_in_words()] == names
        assert stack.describe()[2].settings["adaptive"]["min_limit"] == 1

    def test_not_there(self, make_stack: Callable[..., Stack]):
        """
        A stack without them has no admission.
        """
        assert make_stack(circuit_breaker=CircuitBreakerConfig()).admission is None


class TestSlots:
    @pytest.mark.parametrize("error", [None, ConnectionError("lost"), KeyboardInterrupt()])
    def test_given_back_whatever_the_end(self, both_worlds: Any, error: BaseException | None):
        """
        Success, failure or interruption: the slot is free again, and the call was made within it.
        """
        calls: list[int] = []

        def step() -> str:
            calls.append(in_use(call.stack))
            if error is not None:
                raise error
            return "done"

        call = both_worlds(step, bulkhead=ONE_AT_ONCE)
        if error is None:
            assert call() == "done"
        else:
            with pytest.raises(type(error)):
                call()

        assert calls == [1]
        assert in_use(call.stack) == 0

    def test_each_attempt_has_its_own(self, both_worlds: Any):
        """
        A retry takes a slot anew: none is held while the call waits between two attempts.
        """
        call = both_worlds(
            ConnectionRefusedError(), ConnectionRefusedError(), "done", retry=IMMEDIATE, bulkhead=ONE_AT_ONCE
        )

        assert call() == "done"

        assert in_use(call.stack) == 0

    def test_refusal(self, both_worlds: Any, events: list[Any]):
        """
        A full bulkhead refuses the call without trying it; the breaker takes no note, and the event names the layer.
        """
        call = both_worlds(
            "done", bulkhead=ONE_AT_ONCE, retry=IMMEDIATE, circuit_breaker=CircuitBreakerConfig(failure_threshold=1)
        )
        call.stack.admission.bulkhead.enter()

        with pytest.raises(LimitExceeded) as caught:
            call()

        assert caught.value.error_code is ErrorCode.ERR_LIMIT_BULKHEAD
        assert (caught.value.attempts, call.calls) == (0, 0)
        assert call.stack.breaker.failures == 0
        refused, failed = events
        assert refused == CallRefused("shop.pay", "bulkhead", ErrorCode.ERR_LIMIT_BULKHEAD, None)
        assert isinstance(failed, CallFailed)
        assert failed.reason == "the bulkhead refused"

    def test_fallback_serves(self, both_worlds: Any):
        """
        A refusal is one of the errors that a fallback stands in for.
        """
        steps = (FallbackStep(strategy=FallbackStrategy.DEFAULT_VALUE, value="later"),)
        call = both_worlds("done", bulkhead=ONE_AT_ONCE, fallback=steps)
        call.stack.admission.bulkhead.enter()

        outcome = call.outcome()

        assert (outcome.value, outcome.attempts) == ("later", 0)

    def test_open_breaker_refuses_first(self, both_worlds: Any):
        """
        With both a full bulkhead and an open breaker, it is the breaker that refuses.
        """
        breaker = CircuitBreakerConfig(failure_threshold=1)
        call = both_worlds(ConnectionRefusedError(), bulkhead=ONE_AT_ONCE, circuit_breaker=breaker)
        with pytest.raises(ConnectionRefusedError):
            call()
        call.stack.admission.bulkhead.enter()

        with pytest.raises(CircuitBreakerOpen):
            call()

    def test_half_open_permit_comes_back(self, both_worlds: Any, clock: Any):
        """
        A trial whose call is refused by the bulkhead holds no permit: the next one may try.
        """
        breaker = CircuitBreakerConfig(failure_threshold=1, cooldown=1.0, success_threshold=1)
        call = both_worlds(ConnectionRefusedError(), "done", bulkhead=ONE_AT_ONCE, circuit_breaker=breaker)
        with pytest.raises(ConnectionRefusedError):
            call()
        clock.advance(1.0)
        call.stack.admission.bulkhead.enter()
        with pytest.raises(LimitExceeded):
            call()
        call.stack.admission.bulkhead.leave()

        assert call() == "done"

    def test_plain_function_keeps_its_slot_until_it_ends(self, make_stack: Callable[..., Stack], clock: Any):
        """
        A function that is left behind in its thread holds its slot until it has really ended.
        """
        stack = make_stack(bulkhead=ONE_AT_ONCE, timeout=TimeoutConfig(attempt=5.0))
        go, begun = threading.Event(), threading.Event()

        def hangs() -> None:
            begun.set()
            clock.advance(5.0)
            go.wait(10)

        with pytest.raises(TimeoutError):
            guard(stack, hangs)()

        assert begun.is_set()
        assert in_use(stack) == 1
        with pytest.raises(LimitExceeded):
            guard(stack, hangs)()
        go.set()
        wait_until(lambda: in_use(stack) == 0)

    def test_plain_function_in_a_thread(self, make_stack: Callable[..., Stack]):
        """
        One that ends in time gives it back when the breaker knows how it ended.
        """
        breaker = CircuitBreakerConfig(failure_threshold=1)
        stack = make_stack(bulkhead=ONE_AT_ONCE, timeout=TimeoutConfig(attempt=5.0), circuit_breaker=breaker)

        def fails() -> None:
            raise ConnectionRefusedError

        with pytest.raises(ConnectionRefusedError):
            guard(stack, fails)()

        assert in_use(stack) == 0

    def test_nested_in_itself(self, both_worlds: Any, world: Any):
        """
        A call within a call of the same target needs a slot of its own.
        """
        inner = both_worlds("inner", bulkhead=ONE_AT_ONCE)
        outer = guard(inner.stack, world.calling(inner.guarded), cooperative=True)

        with pytest.raises(LimitExceeded):
            world.run(outer)

        assert in_use(inner.stack) == 0


class TestQueueing:
    def test_first_come_first_served(self):
        """
        Calls wait in order; an event says how long, and what they wait is not their attempt's time.
        """
        clock = LoopClock(0.0)
        events: list[Any] = []
        policy = TargetPolicy(
            bulkhead=BulkheadConfig(max_concurrent=2, max_waiting=9), timeout=TimeoutConfig(attempt=1.5)
        )
        stack = Stack("shop.pay", policy, clock=clock, emit=events.append)
        order: list[int] = []

        async def work(number: int) -> None:
            order.append(number)
            await asyncio.sleep(1.0)

        call = guard(stack, work)

        async def main() -> None:
            await asyncio.gather(*(call(number) for number in range(6)))

        run_virtual(clock, main())

        assert order == list(range(6))
        assert clock.monotonic() == 3.0
        assert events == [CallQueued("shop.pay", waited) for waited in (1.0, 1.0, 2.0, 2.0)]

    def test_breaker_that_opens_while_calls_queue(self):
        """
        Of twenty callers waiting for four slots none starts once the breaker has opened.
        """
        clock = LoopClock(0.0)
        policy = TargetPolicy(
            bulkhead=BulkheadConfig(max_concurrent=4, max_waiting=20),
            circuit_breaker=CircuitBreakerConfig(failure_threshold=4),
        )
        stack = Stack("shop.pay", policy, clock=clock)
        started: list[float] = []

        async def fails() -> None:
            started.append(clock.monotonic())
            await asyncio.sleep(1.0)
            raise ConnectionRefusedError

        call = guard(stack, fails)

        async def main() -> list[Any]:
            return await asyncio.gather(*(call() for _ in range(24)), return_exceptions=True)

        results = run_virtual(clock, main())

        assert len(started) <= 7  # the breaker opens with the fourth failure: three slots were handed on before
        assert sum(isinstance(result, CircuitBreakerOpen) for result in results) == 24 - len(started)
        assert in_use(stack) == 0

    def test_deadline_while_it_waits(self):
        """
        The deadline covers the queue; the refusal is the deadline's.
        """
        clock = LoopClock(0.0)
        events: list[Any] = []
        policy = TargetPolicy(deadline=2.0, bulkhead=BulkheadConfig(max_concurrent=1, max_waiting=9))
        stack = Stack("shop.pay", policy, clock=clock, emit=events.append)

        async def work() -> None:
            await asyncio.sleep(1.5)

        call = guard(stack, work)

        async def main() -> Any:
            return await asyncio.gather(*(call() for _ in range(3)), return_exceptions=True)

        first, second, third = run_virtual(clock, main())

        assert first is None
        assert (second.error_code, third.error_code) == (ErrorCode.ERR_TIMEOUT_DEADLINE, ErrorCode.ERR_TIMEOUT_DEADLINE)
        assert clock.monotonic() == 2.0
        assert in_use(stack) == 0
        assert [event.layer for event in events if isinstance(event, CallRefused)] == ["deadline"]

    def test_cancelled_while_it_waits(self):
        """
        A call that is cancelled in the queue, or in the moment of the handover, takes no slot along.
        """
        clock = LoopClock(0.0)
        stack = Stack("shop.pay", TargetPolicy(bulkhead=BulkheadConfig(max_concurrent=1, max_waiting=9)), clock=clock)

        async def work() -> None:
            await asyncio.sleep(1.0)

        call = guard(stack, work)

        async def main() -> None:
            tasks = [asyncio.ensure_future(call()) for _ in range(4)]
            await asyncio.sleep(0.5)
            tasks[1].cancel()
            await asyncio.sleep(0.5)
            tasks[2].cancel()
            await asyncio.wait(tasks)
            assert not tasks[3].cancelled()

        run_virtual(clock, main())

        assert in_use(stack) == 0
        assert clock.monotonic() == 2.0

    def test_threads_and_a_loop_together(self):
        """
        One stack, wrapped for both worlds: its limit holds for all of them together.
        """
        stack = Stack("shop.pay", TargetPolicy(bulkhead=BulkheadConfig(max_concurrent=2, max_waiting=99)))
        under_way: list[None] = []
        most: list[int] = []

        def work() -> None:
            under_way.append(None)
            most.append(len(under_way))
            time.sleep(0.001)
            under_way.pop()

        async def work_async() -> None:
            under_way.append(None)
            most.append(len(under_way))
            await asyncio.sleep(0.001)
            under_way.pop()

        call, call_async = guard(stack, work), guard(stack, work_async)

        async def main() -> None:
            await asyncio.gather(*(call_async() for _ in range(20)))

        threads = [threading.Thread(target=lambda: [call() for _ in range(10)]) for _ in range(6)]
        threads.append(threading.Thread(target=lambda: asyncio.run(main())))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

        assert max(most) <= 2
        assert len(most) == 80
        assert in_use(stack) == 0


class TestRate:
    def test_refusal(self, both_worlds: Any, events: list[Any]):
        """
        A call that comes too early is refused, and told when it could start.
        """
        call = both_worlds("done", rate_limit=ONE_A_SECOND)
        call()

        with pytest.raises(LimitExceeded) as caught:
            call()

        assert caught.value.retry_after == pytest.approx(1.0)
        assert events[0].layer == "rate_limit"
        assert events[1].reason == "the rate limit refused"

    def test_waits(self, both_worlds: Any, clock: Any, events: list[Any]):
        """
        With a max_wait it waits its turn, and the event says so.
        """
        call = both_worlds("done", rate_limit=RateLimitConfig(max_calls=1, period=1.0, max_wait=5.0))

        assert [call(), call(), call()] == ["done"] * 3

        assert clock.monotonic() == pytest.approx(1002.1)
        assert [event.waited for event in events] == pytest.approx([1.0, 1.0])

    def test_retries_count_too(self, both_worlds: Any):
        """
        Every attempt is a start.
        """
        call = both_worlds(ConnectionRefusedError(), "done", retry=IMMEDIATE, rate_limit=ONE_A_SECOND)

        with pytest.raises(LimitExceeded) as caught:
            call()

        assert isinstance(caught.value.__cause__, ConnectionRefusedError)
        assert call.calls == 1

    def test_tokens(self, both_worlds: Any, clock: Any):
        """
        A success is charged what its result says; a failure nothing.
        """
        tokens = TokenLimitConfig(max_tokens=10, period=10.0)
        call = both_worlds({"usage": {"total_tokens": 25}}, "free", rate_limit=RateLimitConfig(tokens=tokens))
        call()

        with pytest.raises(LimitExceeded) as caught:
            call()
        assert caught.value.retry_after == pytest.approx(16.0)
        clock.advance(16.0)

        assert call() == "free"

    def test_usage_function(self, clock: Any):
        """
        The policy names the function that says what a result has used.
        """
        tokens = TokenLimitConfig(max_tokens=10, period=10.0, usage="words")
        policy = TargetPolicy(rate_limit=RateLimitConfig(tokens=tokens))
        stack = Stack("shop.pay", policy, clock=clock, find_function=lambda name: {"words": len}[name])

        guard(stack, lambda: "four", cooperative=True)()

        assert stack.admission is not None
        assert stack.admission.rate_limit.tokens.level(clock.monotonic()) == 6


class TestAdaptive:
    def test_learns_from_what_calls_meet(self, both_worlds: Any, clock: Any):
        """
        Timeouts lower the limit, mistakes of the caller do not, successes let it grow.
        """

        def times_out() -> None:
            clock.advance(1.0)
            raise TimeoutError(error_code=ErrorCode.ERR_TIMEOUT_RESPONSE)

        adaptive = AdaptiveConfig(initial_limit=2, backoff_ratio=0.5)
        call = both_worlds(
            times_out, ValueError(), "done", "done", bulkhead=BulkheadConfig(max_concurrent=9, adaptive=adaptive)
        )
        limits = []
        for _ in range(4):
            with contextlib.suppress(Exception):
                call()
            limits.append(call.stack.admission.bulkhead.limit)

        assert limits == [1, 1, 2, 2]

    def test_attempt_that_had_no_time(self, both_worlds: Any, clock: Any, world: Any, make_stack: Any):
        """
        An attempt that its caller's deadline cut at once says nothing about the target.
        """

        def cut() -> None:
            clock.advance(1.0)
            raise TimeoutError(error_code=ErrorCode.ERR_TIMEOUT_DEADLINE)

        inner = both_worlds(cut, bulkhead=BulkheadConfig(adaptive=AdaptiveConfig(initial_limit=4)))
        outer = guard(make_stack(deadline=1.0), world.calling(inner.guarded), cooperative=True)

        with pytest.raises(TimeoutError):
            world.run(outer)

        assert inner.stack.admission.bulkhead.limit == 4
