"""Streams as somebody sees them, in both worlds: an attempt lasts until its stream ends."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest
from diary import gone, wait_for
from streaming import END, AsyncStreams, Hang, SyncStreams

from pixel_llm.errors import ErrorCode, LimitExceeded
from pixel_llm.policy import (
    ChaosConfig,
    ChaosError,
    FallbackStep,
    FallbackStrategy,
    RetryConfig,
    RetryStrategy,
    TimeoutConfig,
)
from pixel_llm.resilience import guard
from pixel_llm.resilience.tracing.live import current

TWICE = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=2)
LEFT_AFTER_ONE = ["a begins", "a.1 begins", "a: 1", "a.1 ends in GeneratorExit", "a ends in GeneratorExit"]


@pytest.fixture(params=[SyncStreams, AsyncStreams], ids=lambda world: world.name)
def world(request, tracer):
    world = request.param()
    world.tracer = tracer
    return world


class TestEnds:
    def test_a_stream_and_its_attempt(self, world, tracer):
        async def case():
            assert await world.open([1, 2]).rest() == [1, 2]

        world.run(case)
        assert tracer.diary == ["a begins", "a.1 begins", "a: 1", "a: 2", "a.1 ends in None", "a ends in 2"]
        assert current() is None

    def test_it_begins_when_it_is_read(self, world, tracer):
        async def case():
            stream = world.open([1])
            assert tracer.diary == []
            await stream.next()
            assert tracer.diary == ["a begins", "a.1 begins", "a: 1"]
            assert await stream.next() is END
            ended = list(tracer.diary)
            assert await stream.next() is END
            await stream.close()
            assert tracer.diary == ended

        world.run(case)

    def test_it_is_tried_again(self, world, tracer):
        async def case():
            assert await world.open([gone()], [1], retry=TWICE).rest() == [1]

        world.run(case)
        assert tracer.diary == [
            *("a begins", "a.1 begins", "a.1 ends in ConnectionError"),
            *("a.2 begins", "a: 1", "a.2 ends in None", "a ends in 1"),
        ]
        assert tracer.ended[-1][1].attempts == 2

    def test_it_breaks(self, world, tracer):
        async def case():
            with pytest.raises(ConnectionError):
                await world.open([1, gone()]).rest()

        world.run(case)
        assert tracer.diary[-2:] == ["a.1 ends in ConnectionError", "a ends in ConnectionError"]
        assert tracer.ended[-1][1].value == 1

    def test_it_fails_before_its_first_content(self, world, tracer):
        async def case():
            with pytest.raises(ConnectionError):
                await world.open([gone()]).next()

        world.run(case)
        assert tracer.diary == ["a begins", "a.1 begins", "a.1 ends in ConnectionError", "a ends in ConnectionError"]

    def test_a_fallback_serves(self, world, tracer):
        serves = (FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="later"),)

        async def case():
            assert await world.open([gone()], fallback=serves).rest() == ["later"]

        world.run(case)
        assert tracer.diary[-2:] == ["a: later", "a ends in 1"]
        assert tracer.ended[-1][1].degraded

    def test_what_is_injected_is_seen(self, world, tracer):
        chaos = ChaosConfig(error=ChaosError(rate=1.0, codes=(ErrorCode.ERR_API_OVERLOAD,)))

        async def case():
            with pytest.raises(Exception, match="chaos"):
                await world.open([1], chaos=chaos).next()

        world.run(case)
        assert tracer.diary == ["a begins", "a.1 begins", "a.1 ends in APIError", "a ends in APIError"]

    def test_silence(self, world, tracer):
        async def case():
            stream = world.open([1, Hang(10)], timeout=TimeoutConfig(idle=5.0))
            await stream.next()
            with pytest.raises(Exception, match="nothing came"):
                await stream.next()

        world.run(case)
        wait_for(lambda: len(tracer.ended) == 2)
        assert "a ends in TimeoutError" in tracer.diary


class TestLeft:
    def test_it_is_closed(self, world, tracer):
        async def case():
            stream = world.open([1, 2])
            await stream.next()
            await stream.close()
            assert tracer.diary == LEFT_AFTER_ONE
            await stream.close()
            assert await stream.next() is END

        world.run(case)
        assert tracer.diary == LEFT_AFTER_ONE
        assert tracer.ended[-1][1].value == 1

    def test_it_is_closed_and_was_never_read(self, world, tracer):
        async def case():
            stream = world.open([1])
            await stream.close()
            assert await stream.next() is END

        world.run(case)
        assert tracer.diary == []

    def test_it_is_dropped(self, world, tracer):
        async def case():
            stream = world.open([1, 2])
            await stream.next()
            del stream
            gc.collect()
            await world.pause(0.01)

        world.run(case)
        wait_for(lambda: len(tracer.ended) == 2)
        assert tracer.diary[:3] == LEFT_AFTER_ONE[:3]
        assert sorted(tracer.diary[3:]) == sorted(LEFT_AFTER_ONE[3:])

    def test_it_lies_for_too_long(self, world, tracer):
        async def case():
            stream = world.open([1, 2], timeout=TimeoutConfig(max_pause=5.0))
            await stream.next()
            await world.pause(6)
            with pytest.raises(LimitExceeded):
                await stream.next()

        world.run(case)
        wait_for(lambda: len(tracer.ended) == 2)
        assert "a ends in LimitExceeded" in tracer.diary

    def test_its_code_fails_to_end(self, world, tracer):
        def stubborn():
            try:
                yield 1
            finally:
                raise ValueError("no")

        async def stubborn_async():
            try:
                yield 1
            finally:
                raise ValueError("no")

        async def case():
            stream = world.reader(guard(world.stack(), stubborn_async if world.name == "async" else stubborn)())
            await stream.next()
            with pytest.raises(ValueError, match="no"):
                await stream.close()

        world.run(case)
        assert tracer.diary[-2:] == ["a.1 ends in ValueError", "a ends in ValueError"]

    def test_another_thread_closes_it_while_it_is_read(self, tracer):
        world = SyncStreams()
        world.tracer = tracer
        stream = world.open([lambda: stream.close(), 1, 2]).stream
        assert list(stream) == [1]
        assert tracer.diary == LEFT_AFTER_ONE

    def test_another_task_closes_it_while_it_is_read(self, tracer):
        world = AsyncStreams()
        world.tracer = tracer

        async def case():
            stream = world.open([1, Hang(60)])
            await stream.next()
            reading = asyncio.create_task(stream.next())
            await asyncio.sleep(0)
            await stream.close()
            assert await reading is END

        world.run(case)
        assert sorted(tracer.diary[3:]) == ["a ends in GeneratorExit", "a.1 ends in CancelledError"]

    def test_two_threads_read_at_once(self, tracer):
        """The one that must not does no harm."""
        world = SyncStreams()
        world.tracer = tracer
        begun, go_on = threading.Event(), threading.Event()

        def slow():
            begun.set()
            go_on.wait(10)

        stream = world.open([slow, 1]).stream
        chunks = []
        reader = threading.Thread(target=lambda: chunks.extend(stream))
        reader.start()
        begun.wait(10)
        with pytest.raises(RuntimeError, match="another thread"):
            next(stream)
        go_on.set()
        reader.join()
        assert chunks == [1]
        assert tracer.diary == ["a begins", "a.1 begins", "a: 1", "a.1 ends in None", "a ends in 1"]


class TestOtherIterators:
    """What gives the chunks need not be a generator."""

    def test_a_single_value(self, world, tracer):
        async def answer():
            return 7

        async def case():
            function = answer if world.name == "async" else lambda: 7
            assert await world.reader(guard(world.stack(), function, stream=True)()).rest() == [7]

        world.run(case)
        assert tracer.diary == ["a begins", "a.1 begins", "a.1 ends in None", "a: 7", "a ends in 1"]

    def test_one_that_can_be_closed(self, world, tracer):
        closed = []

        class Chunks:
            def __init__(self):
                self.chunks = [2, 1]

            def close(self):
                closed.append(len(self.chunks))

        class SyncChunks(Chunks):
            def __iter__(self):
                return self

            def __next__(self):
                return self.chunks.pop()

        class AsyncChunks(Chunks):
            async def __anext__(self):
                return self.chunks.pop()

        async def open_async():
            return AsyncChunks()

        async def case():
            function = open_async if world.name == "async" else SyncChunks
            stream = world.reader(guard(world.stack(), function, stream=True)())
            assert await stream.next() == 1
            await stream.close()

        world.run(case)
        assert closed == [1]
        assert tracer.diary == LEFT_AFTER_ONE

    def test_opening_fails(self, world, tracer):
        def fail():
            raise gone()

        async def fail_async():
            raise gone()

        async def case():
            function = fail_async if world.name == "async" else fail
            with pytest.raises(ConnectionError):
                await world.reader(guard(world.stack(), function, stream=True)()).next()

        world.run(case)
        assert tracer.diary == ["a begins", "a.1 begins", "a.1 ends in ConnectionError", "a ends in ConnectionError"]

    def test_one_of_the_other_world_is_refused_as_ever(self, world, tracer):
        async def of_async():
            yield 1

        async def of_sync():
            return iter([1])

        async def case():
            function = of_sync if world.name == "async" else lambda: of_async()
            with pytest.raises(Exception, match="async"):
                await world.reader(guard(world.stack(), function, stream=True)()).next()

        world.run(case)
        assert tracer.diary[-1] == "a ends in ValidationError"
