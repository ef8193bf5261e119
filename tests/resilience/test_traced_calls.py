"""Calls and attempts as somebody sees them who asked for it, in both worlds."""

from __future__ import annotations

import asyncio
import threading

import pytest
from diary import TARGET, gone, wait_for

from pixel_llm.errors import CircuitBreakerOpen, ConnectionError, ErrorCode
from pixel_llm.policy import (
    CacheConfig,
    ChaosConfig,
    ChaosError,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    HedgeConfig,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
)
from pixel_llm.resilience import Stack, guard
from pixel_llm.resilience.routes.routes import Routes
from pixel_llm.resilience.tracing.live import current

LATER = FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="later")
TWICE = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=2)


class Guide:
    """Asks in a fixed order, and is ready for everything."""

    def order(self, args):
        return ["x", "y"]

    def prepare(self, name, args):
        """Every place is ready."""

    async def prepare_async(self, name, args):
        """Every place is ready."""

    def enter(self, name):
        """Nobody counts."""

    leave = enter

    def answered(self, name, args):
        """Nobody listens."""

    failed = answered


class TestCalls:
    def test_a_call_and_its_attempts(self, both_worlds, traced_stack, tracer):
        call = both_worlds(gone(), "paid", stack=traced_stack(retry=TWICE))
        assert call("coffee") == "paid"
        assert tracer.diary == [
            "a begins",
            "a.1 begins",
            "a.1 ends in ConnectionError",
            "a.2 begins",
            "a.2 ends in 'paid'",
            "a ends in 'paid'",
        ]
        assert tracer.told == [(TARGET, ("coffee",), {})]
        assert tracer.ended[-1][1].attempts == 2

    def test_an_outcome(self, both_worlds, traced_stack, tracer):
        call = both_worlds(gone(), stack=traced_stack(fallback=(LATER,)))
        outcome = call.outcome()
        assert (outcome.value, outcome.degraded) == ("later", True)
        assert tracer.ended == [("a.1", None, outcome.error), ("a", outcome, None)]

    def test_one_that_fails(self, both_worlds, traced_stack, tracer):
        call = both_worlds(error := gone(), stack=traced_stack())
        with pytest.raises(ConnectionError):
            call()
        assert tracer.ended == [("a.1", None, error), ("a", None, error)]

    def test_one_that_is_refused_has_no_attempt(self, both_worlds, traced_stack, tracer):
        call = both_worlds(gone(), stack=traced_stack(circuit_breaker=CircuitBreakerConfig(failure_threshold=1)))
        with pytest.raises(ConnectionError):
            call()
        tracer.diary.clear()
        with pytest.raises(CircuitBreakerOpen):
            call()
        assert tracer.diary == ["b begins", "b ends in CircuitBreakerOpen"]

    def test_calls_within_calls(self, world, traced_stack, tracer):
        inner = guard(traced_stack(), world.function(lambda: 1))
        outer = guard(traced_stack(), world.calling(inner))
        assert world.run(outer) == 1
        assert tracer.diary == [
            "a begins",
            "a.1 begins",
            "b begins",
            "b.1 begins",
            "b.1 ends in 1",
            "b ends in 1",
            "a.1 ends in 1",
            "a ends in 1",
        ]

    def test_code_is_part_of_its_attempt_and_of_nothing_afterwards(self, both_worlds, traced_stack, tracer):
        seen = []
        call = both_worlds(lambda: seen.append(current()._span), stack=traced_stack())
        call()
        assert [(span.name, span.inside) for span in seen] == [("a.1", 0)]
        assert current() is None

    def test_what_is_injected_is_seen(self, both_worlds, traced_stack, tracer):
        chaos = ChaosConfig(error=ChaosError(rate=1.0, codes=(ErrorCode.ERR_API_OVERLOAD,)))
        call = both_worlds("paid", stack=traced_stack(chaos=chaos))
        with pytest.raises(Exception, match="chaos"):
            call()
        assert tracer.diary[1:3] == ["a.1 begins", "a.1 ends in APIError"]

    def test_a_result_that_is_not_taken(self, both_worlds, traced_stack, tracer):
        retry = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=2, retry_on_result="is_empty")
        call = both_worlds("", "paid", stack=traced_stack(retry=retry, functions={"is_empty": lambda value: not value}))
        assert call() == "paid"
        assert [line for line in tracer.diary if line.startswith("a.1 ends")] == ["a.1 ends in RetryExhausted"]

    def test_a_hit_of_the_cache_has_no_attempt(self, both_worlds, traced_stack, tracer):
        call = both_worlds("paid", stack=traced_stack(cache=CacheConfig(ttl=60.0)), options={"key": lambda: "k"})
        call()
        tracer.diary.clear()
        call()
        assert tracer.diary == ["b begins", "b ends in 'paid'"]
        assert tracer.ended[-1][1].served_by == "cache_hit"

    def test_another_model(self, both_worlds, world, traced_stack, tracer):
        step = FallbackStep(FallbackStrategy.MODEL, value="small")
        call = both_worlds(
            gone(),
            stack=traced_stack(fallback=(step,)),
            options={"alternative": lambda kind, name: world.function(lambda: name)},
        )
        assert call() == "small"
        assert tracer.diary[1:5] == [
            "a.1 begins",
            "a.1 ends in ConnectionError",
            "a.2[model=small] begins",
            "a.2[model=small] ends in 'small'",
        ]

    def test_places(self, world, traced_stack, tracer):
        def fail():
            raise gone()

        routes = Routes({"x": world.function(fail), "y": world.function(lambda: "paid")}, Guide())
        guarded = guard(traced_stack(), world.function(lambda: "unused"), routes=routes, cooperative=True)
        assert world.run(guarded) == "paid"
        assert tracer.diary == [
            "a begins", "a.1 begins", "a.1.1[endpoint=x] begins", "a.1.1[endpoint=x] ends in ConnectionError",
            "a.1.2[endpoint=y] begins", "a.1.2[endpoint=y] ends in 'paid'", "a.1 ends in 'paid'", "a ends in 'paid'",
        ]  # fmt: skip

    def test_an_attempt_in_a_thread(self, tracer):
        stack = Stack(TARGET, TargetPolicy(timeout=TimeoutConfig(attempt=5.0)), tracer=tracer)
        threads = []
        guard(stack, lambda: threads.append((threading.current_thread(), current()._span.name)))()
        assert threads[0][0] is not threading.current_thread()
        assert threads[0][1] == "a.1"
        assert tracer.diary[-1] == "a ends in None"

    def test_attempts_side_by_side(self, world, tracer):
        stack = Stack(TARGET, TargetPolicy(idempotent=True, hedge=HedgeConfig(delay=0.01)), tracer=tracer)
        ended = threading.Event()

        def slow_at_first():
            if current()._span.name == "a.1":
                ended.wait(5)
            return current()._span.name

        async def slow_at_first_async():
            if current()._span.name == "a.1":
                await asyncio.sleep(5)
            return current()._span.name

        guarded = guard(stack, slow_at_first if world.name == "sync" else slow_at_first_async)
        assert world.run(guarded) == "a.2"
        assert "a.2 ends in 'a.2'" in tracer.diary
        ended.set()
        wait_for(lambda: len(tracer.ended) == 3)
        assert {name for name, *_ in tracer.ended} == {"a", "a.1", "a.2"}

    def test_a_task_that_is_cancelled(self, traced_stack, tracer):
        async def hang():
            await asyncio.sleep(60)

        async def main():
            task = asyncio.create_task(guard(traced_stack(), hang)())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert tracer.diary == ["a begins", "a.1 begins", "a.1 ends in CancelledError", "a ends in CancelledError"]

    def test_a_coroutine_that_is_dropped(self, traced_stack, tracer):
        class Suspended:
            def __await__(self):
                yield

        async def hang():
            await Suspended()

        coroutine = guard(traced_stack(), hang)()
        coroutine.send(None)
        coroutine.close()
        wait_for(lambda: len(tracer.ended) == 2)
        assert sorted(tracer.diary[2:]) == ["a ends in GeneratorExit", "a.1 ends in GeneratorExit"]
        assert current() is None

    def test_a_call_that_began_before_somebody_looked(self, world, tracer, clock):
        """Its road has no span, though a layer inside it has a tracer."""
        stack = Stack(TARGET, TargetPolicy(), clock=clock, tracer=tracer)
        attempt = stack.around(world.function(lambda: 1), is_async=world.name == "async")
        assert world.run(attempt) == 1
        stream = stack.around_stream(world.function(lambda: [1]), is_async=world.name == "async")
        assert world.run(stream) == [1]
        assert tracer.diary == []
