"""Streams pass the stack: what holds in both worlds."""

import contextlib
import copy
import gc
import pickle
import queue
import sys
import threading

import pytest
from streaming import END, AsyncStreams, Hang, SyncStreams

from pixel_llm.errors import (
    APIError,
    Arrived,
    CircuitBreakerOpen,
    ConnectionError,
    ErrorCode,
    LimitExceeded,
    TimeoutError,
    ValidationError,
)
from pixel_llm.events import (
    AttemptFailed,
    CallFailed,
    FallbackServed,
    RetryScheduled,
    StreamAbandoned,
    StreamBroken,
)
from pixel_llm.policy import (
    AdaptiveConfig,
    BulkheadConfig,
    CacheConfig,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    HedgeConfig,
    Jitter,
    RateLimitConfig,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
    TokenLimitConfig,
)
from pixel_llm.resilience import CircuitState, Stack, current_limits, guard
from pixel_llm.resilience.streams.arrival import MAX_BYTES, MAX_CHUNKS

LOST = ErrorCode.ERR_CONN_LOST


@pytest.fixture(params=[SyncStreams, AsyncStreams], ids=lambda world: world.name)
def world(request):
    return request.param()


def gone(text="gone"):
    return ConnectionError(text, error_code=LOST)


def steady(attempts=3, wait=1.0):
    return RetryConfig(
        strategy=RetryStrategy.FIXED_DELAY, max_attempts=attempts, initial_delay=wait, jitter=Jitter.NONE
    )


def breaker(failures=1, **more):
    return CircuitBreakerConfig(failure_threshold=failures, **more)


def serves(strategy, **more):
    return (FallbackStep(strategy, **more),)


class TestSuccess:
    def test_delivers_every_chunk_in_order(self, world):
        """
        A stream that ends normally is a success, reports nothing, and gives what the generator gave.
        """

        async def case():
            stream = world.open(
                [1, 2, 3],
                deadline=60.0,
                retry=steady(),
                circuit_breaker=breaker(),
                timeout=TimeoutConfig(attempt=9.0, idle=5.0, max_pause=60.0),
            )

            assert [1, 2, 3] == await stream.rest()
            assert END == await stream.next()
            stats = stream.stream._stack.stats()
            assert (1, 0, {}) == (stats.succeeded, stats.failed, stats.happened)

        world.run(case)

        assert [] == world.events

    def test_begins_when_it_is_read(self, world):
        """
        Nothing runs, and no time counts, until the first chunk is asked for: as with any generator.
        """

        async def case():
            stream = world.open([1], deadline=5.0)
            await world.pause(60.0)

            assert 0 == stream.script.calls
            assert [1] == await stream.rest()
            assert 1 == stream.script.calls

        world.run(case)

    def test_is_counted_when_it_has_ended(self, world):
        """
        It counts once all has arrived, with the time to its first content: the rest depends on who reads.
        """

        async def case():
            stream = world.open([lambda: world.clock.advance(0.5), 1, 2])
            stack = stream.stream._stack
            await stream.next()
            await world.pause(100.0)

            assert 0 == stack.stats().succeeded
            assert [2] == await stream.rest()
            assert 1 == stack.stats().succeeded
            assert 0.25 < stack.stats().latency.quantile(1.0) < 1.1

        world.run(case)

    def test_may_be_empty(self, world):
        """
        A stream that ends without content has succeeded.
        """

        async def case():
            stream = world.open([], circuit_breaker=breaker())

            assert [] == await stream.rest()
            assert 1 == stream.stream._stack.stats().succeeded

        world.run(case)

    def test_forgets_failures(self, world):
        """
        Its end, not its beginning, is what the breaker takes for a success.
        """

        async def case():
            stack = world.stack(circuit_breaker=breaker(failures=2))
            broken = world.open([1, gone()], stack=stack)
            await broken.next()
            with pytest.raises(ConnectionError):
                await broken.next()
            fine = world.open([1, 2], stack=stack)
            await fine.next()
            before = stack.breaker.failures
            await fine.rest()

            assert (1, 0) == (before, stack.breaker.failures)

        world.run(case)

    def test_outcome(self, world):
        """
        The stream itself says who serves and after how many attempts; its value is the number of chunks.
        """

        async def case():
            stream = world.open([gone()], [1, 2], retry=steady())
            before = stream.stream.outcome()
            await stream.next()
            during = stream.stream.outcome()
            await stream.rest()
            await world.pause(9.0)
            after = stream.stream.outcome()

            assert (0, 0, 0.0) == (before.value, before.attempts, before.elapsed)
            assert (1, 2, "call") == (during.value, during.attempts, during.served_by)
            assert (2, 2, False, 1.0) == (after.value, after.attempts, after.degraded, round(after.elapsed, 3))

        world.run(case)

    def test_the_guard_has_no_outcome(self, world):
        """
        How a stream came about is not known when it begins.
        """
        with pytest.raises(ValidationError, match=r"ask the stream itself, stream\.outcome\(\)"):
            world.guarded([1]).outcome()


class TestBeforeTheFirstContent:
    def test_is_tried_again(self, world):
        """
        A stream that fails without having delivered anything is tried again.
        """

        async def case():
            stream = world.open([gone()], [gone()], [1, 2], retry=steady())

            assert [1, 2] == await stream.rest()
            assert 3 == stream.script.calls

        world.run(case)

        assert ["attempt_failed", "retry_scheduled"] * 2 + ["call_recovered"] == world.names()
        assert 2.0 == pytest.approx(world.events[-1].elapsed)

    def test_has_the_time_of_an_attempt(self, world):
        """
        `attempt` bounds the time to the first content; then the next attempt gets its turn.
        """

        async def case():
            stream = world.open([Hang(6.0), 1], [2], retry=steady(), timeout=TimeoutConfig(attempt=5.0))

            assert [2] == await stream.rest()

        world.run(case)

        (failed,) = [event for event in world.events if isinstance(event, AttemptFailed)]
        assert (ErrorCode.ERR_TIMEOUT_REQUEST, 5.0) == (failed.error_code, pytest.approx(failed.elapsed, abs=1.01))

    def test_first_token_is_the_more_precise_name(self, world):
        """
        Where `first_token` is given it bounds the time to the first content, and `attempt` does not.
        """

        async def case():
            stream = world.open([Hang(3.0), 1], timeout=TimeoutConfig(attempt=60.0, first_token=2.0))
            with pytest.raises(TimeoutError, match=r"there was no content within 2 s") as caught:
                await stream.next()

            assert ErrorCode.ERR_TIMEOUT_RESPONSE is caught.value.error_code
            assert END == await stream.next()

        world.run(case)

    def test_first_token_at_the_deadline(self, world):
        """
        Where both come at the same moment it is the deadline that has passed.
        """

        async def case():
            stream = world.open([Hang(9.0), 1], deadline=4.0, timeout=TimeoutConfig(first_token=4.0))
            with pytest.raises(TimeoutError) as caught:
                await stream.next()

            assert ErrorCode.ERR_TIMEOUT_DEADLINE is caught.value.error_code

        world.run(case)

    def test_a_slow_rest_is_no_slow_attempt(self, world):
        """
        What comes after the first content may take longer than `attempt`.
        """

        async def case():
            stream = world.open([1, Hang(50.0), 2], timeout=TimeoutConfig(attempt=5.0), cooperative=True)

            assert [1, 2] == await stream.rest()

        world.run(case)

    def test_the_deadline_ends_it(self, world):
        """
        The deadline covers attempts, waits and the stream itself.
        """

        async def case():
            stream = world.open([Hang(9.0), 1], deadline=4.0, timeout=TimeoutConfig(attempt=20.0))
            with pytest.raises(TimeoutError) as caught:
                await stream.next()

            assert ErrorCode.ERR_TIMEOUT_DEADLINE is caught.value.error_code

        world.run(case)

    def test_an_open_breaker_refuses(self, world):
        """
        An open breaker refuses a stream when its first chunk is asked for.
        """

        async def case():
            stack = world.stack(circuit_breaker=breaker())
            with pytest.raises(ConnectionError):
                await world.open([gone()], stack=stack).next()
            stream = world.open([1], stack=stack)
            with pytest.raises(CircuitBreakerOpen):
                await stream.next()

            assert 0 == stream.script.calls
            assert END == await stream.next()

        world.run(case)

    def test_a_wrong_call_is_no_attempt_that_counts(self, world):
        """
        Wrong arguments are the caller's mistake.
        """

        async def case():
            guarded = world.guarded([1], circuit_breaker=breaker(), retry=steady())
            stack = guarded.binding._road.stack
            with pytest.raises(TypeError):
                await world.reader(guarded(nothing="like it")).next()

            assert CircuitState.CLOSED is stack.breaker.state

        world.run(case)


class TestBroken:
    def test_is_counted_once_and_never_tried_again(self, world):
        """
        An error after the first content is raised as it is; the breaker counts it once.
        """

        async def case():
            error = gone("the server died")
            stream = world.open([1, 2, error], retry=steady(), circuit_breaker=breaker(failures=2))
            read = [await stream.next(), await stream.next()]
            with pytest.raises(ConnectionError) as caught:
                await stream.next()

            assert [1, 2] == read
            assert error is caught.value
            assert (1, 1) == (stream.script.calls, stream.stream._stack.breaker.failures)
            assert (1, "writer.write") == (error.attempts, error.target)
            assert END == await stream.next()

        world.run(case)

        assert [StreamBroken, CallFailed] == [type(event) for event in world.events]
        assert (2, LOST) == (world.events[0].chunks, world.events[0].error_code)
        assert "content had been delivered" == world.events[1].reason

    def test_says_what_had_arrived(self, world):
        """
        The error carries the chunks that were delivered, in this process; a pickle and a text have their number.
        """

        async def case():
            stream = world.open(["Once ", "upon ", gone()])
            with pytest.raises(ConnectionError) as caught:
                await stream.rest()

            assert Arrived(2, ("Once ", "upon "), True) == caught.value.arrived
            assert Arrived(2) == pickle.loads(pickle.dumps(caught.value)).arrived
            assert Arrived(2) == copy.deepcopy(caught.value).arrived
            assert "Arrived(chunks=2)" == repr(caught.value.arrived)

        world.run(case)

        assert not any("Once" in repr(event) for event in world.events)

    def test_keeps_a_mebibyte(self, world):
        """
        Of long chunks so many are kept as fit into a mebibyte, by their own size; it is said that more had arrived.
        """

        async def case():
            chunk = "x" * (1024 * 1024 // 4 - sys.getsizeof(""))
            stream = world.open([chunk, chunk, chunk, chunk, "y", "z", gone()])
            with pytest.raises(ConnectionError) as caught:
                await stream.rest()
            arrived = caught.value.arrived

            assert (6, (chunk,) * 4, False) == (arrived.chunks, arrived.content, arrived.complete)
            assert 1024 * 1024 == MAX_BYTES

        world.run(case)

    def test_keeps_no_more_than_a_bound(self, world):
        """
        Of a long stream the first chunks are kept.
        """

        async def case():
            stream = world.open([*range(MAX_CHUNKS + 5), gone()])
            with pytest.raises(ConnectionError) as caught:
                await stream.rest()

            arrived = caught.value.arrived
            assert (MAX_CHUNKS + 5, MAX_CHUNKS, False) == (arrived.chunks, len(arrived.content), arrived.complete)

        world.run(case)

    def test_keeps_no_large_chunks(self, world):
        """
        A chunk that is too large ends the keeping: what is kept has no gaps.
        """

        async def case():
            stream = world.open([b"a", b"b" * 2_000_000, b"c", gone()])
            with pytest.raises(ConnectionError) as caught:
                await stream.rest()

            assert Arrived(3, (b"a",), False) == caught.value.arrived

        world.run(case)

    def test_carries_the_attempts_before(self, world):
        """
        Its history has the attempts that failed before the first content, too.
        """

        async def case():
            stream = world.open([gone("first")], [1, gone("second")], retry=steady())
            with pytest.raises(ConnectionError) as caught:
                await stream.rest()

            assert ["first", "second"] == [record.error for record in caught.value.history]
            assert 2 == caught.value.attempts

        world.run(case)

        assert [AttemptFailed, RetryScheduled, StreamBroken, CallFailed] == [type(event) for event in world.events]

    def test_no_fallback_serves(self, world):
        """
        Half a story is not finished with the end of another one.
        """

        async def case():
            stream = world.open([1, gone()], fallback=serves(FallbackStrategy.DEFAULT_VALUE, value="sorry"))
            with pytest.raises(ConnectionError):
                await stream.rest()

        world.run(case)

    def test_what_does_not_count_is_neutral(self, world):
        """
        PERMANENT errors don't count after the first content either.
        """

        async def case():
            stream = world.open(
                [1, APIError("no", error_code=ErrorCode.ERR_API_BAD_REQUEST)], circuit_breaker=breaker()
            )
            with pytest.raises(APIError):
                await stream.rest()

            assert CircuitState.CLOSED is stream.stream._stack.breaker.state

        world.run(case)

    def test_is_as_slow_as_its_first_content(self, world):
        """
        A consumer that takes its time makes no slow call.
        """

        async def case():
            stack = world.stack(
                circuit_breaker=CircuitBreakerConfig(
                    slow_call_rate=0.5, slow_call_duration=10.0, minimum_calls=1, failure_threshold=50
                )
            )
            for script in ([1, gone()], [1, 2]):
                stream = world.open(script, stack=stack)
                await stream.next()
                await world.pause(100.0)
                with contextlib.suppress(ConnectionError):
                    await stream.next()
                await stream.rest()

            assert CircuitState.CLOSED is stack.breaker.state

        world.run(case)


class TestAdaptiveBulkhead:
    @staticmethod
    def room(**settings):
        return BulkheadConfig(max_concurrent=4, adaptive=AdaptiveConfig(**settings))

    def test_a_stream_that_ends_lets_the_limit_grow(self, world):
        """
        A stream that has ended is a success, and if all slots were in use, there is room for one more.
        """

        async def case():
            stream = world.open([1, 2], bulkhead=self.room(initial_limit=1))
            slots = stream.stream._stack.admission.bulkhead
            await stream.rest()

            assert (2, 0) == (slots.limit, slots.in_use)

        world.run(case)

    def test_how_long_it_is_read_says_nothing(self, world):
        """
        A stream is as slow as its first content: what comes after it depends on who reads.
        """

        async def case():
            room = self.room(initial_limit=1, slow_call_duration=5.0)
            stream = world.open([1, 2], bulkhead=room)
            slots = stream.stream._stack.admission.bulkhead
            await stream.next()
            await world.pause(60.0)
            await stream.rest()

            assert 2 == slots.limit

        world.run(case)

    def test_a_slow_first_content_lowers_it(self, world):
        """
        A stream whose first content came late is a sign of overload.
        """

        async def case():
            room = self.room(initial_limit=4, slow_call_duration=5.0, backoff_ratio=0.5)
            stream = world.open([lambda: world.clock.advance(6.0), 1], bulkhead=room)
            slots = stream.stream._stack.admission.bulkhead
            await stream.rest()

            assert 2 == slots.limit

        world.run(case)


class TestIdle:
    def test_bounds_the_wait_for_the_server(self, world):
        """
        A server that says nothing for `idle` breaks the stream, and that counts.
        """

        async def case():
            stream = world.open([1, Hang(4.0), 2], timeout=TimeoutConfig(idle=3.0), circuit_breaker=breaker())
            await stream.next()
            with pytest.raises(TimeoutError, match=r"nothing came for 3 s after 1 chunk$") as caught:
                await stream.next()

            assert ErrorCode.ERR_TIMEOUT_IDLE is caught.value.error_code
            assert CircuitState.OPEN is stream.stream._stack.breaker.state

        world.run(case)

    def test_says_after_how_many_chunks(self, world):
        """
        The error tells how far the stream had come.
        """

        async def case():
            stream = world.open([1, 2, Hang(4.0), 3], timeout=TimeoutConfig(idle=3.0))
            await stream.next()
            await stream.next()
            with pytest.raises(TimeoutError, match=r"nothing came for 3 s after 2 chunks$"):
                await stream.next()

        world.run(case)

    def test_a_slow_consumer_is_not_the_server_s_fault(self, world):
        """
        Only the time in next() counts.
        """

        async def case():
            stream = world.open([1, Hang(1.0), 2], timeout=TimeoutConfig(idle=3.0), cooperative=True)
            await stream.next()
            await world.pause(100.0)

            assert [2] == await stream.rest()

        world.run(case)


class TestDeadline:
    def test_covers_the_stream(self, world):
        """
        When the deadline passes while the server is waited for, the stream ends; the breaker is neutral.
        """

        async def case():
            stream = world.open(
                [1, Hang(60.0), 2], deadline=10.0, timeout=TimeoutConfig(idle=30.0), circuit_breaker=breaker()
            )
            await stream.next()
            with pytest.raises(TimeoutError, match="the deadline of 10 s has passed") as caught:
                await stream.next()

            assert ErrorCode.ERR_TIMEOUT_DEADLINE is caught.value.error_code
            assert CircuitState.CLOSED is stream.stream._stack.breaker.state

        world.run(case)

    def test_is_checked_between_chunks(self, world):
        """
        A consumer that comes back after the deadline finds the stream ended, and its code as well.
        """

        async def case():
            stream = world.open([1, 2], deadline=10.0)
            await stream.next()
            await world.pause(11.0)
            with pytest.raises(TimeoutError, match="the deadline of 10 s has passed"):
                await stream.next()

            assert 1 == stream.script.closed
            assert END == await stream.next()

        world.run(case)

    def test_of_whoever_reads(self, world):
        """
        A stream that is read inside another call has no more time than that call.
        """
        clock = world.clock

        async def case():
            stream = world.open([1, 2], deadline=100.0)
            await stream.next()

            if world.name == "sync":

                def reading():
                    clock.advance(6.0)
                    return next(stream.stream)
            else:

                async def reading():
                    clock.advance(6.0)
                    return await anext(stream.stream)

            outer = guard(world.stack(deadline=5.0), reading)
            with pytest.raises(TimeoutError, match="caller's deadline has passed"):
                await outer() if world.name == "async" else outer()

        world.run(case)

    def test_of_an_attempt_that_reads(self, world):
        """
        Nor more than that call's attempt has.
        """
        clock = world.clock

        async def case():
            stream = world.open([1, 2], deadline=100.0)
            await stream.next()

            if world.name == "sync":

                def reading():
                    clock.advance(6.0)
                    return next(stream.stream)
            else:

                async def reading():
                    clock.advance(6.0)
                    return await anext(stream.stream)

            stack = world.stack(deadline=50.0, timeout=TimeoutConfig(attempt=5.0))
            outer = guard(stack, reading, cooperative=True)
            with pytest.raises(TimeoutError, match="caller's deadline has passed"):
                await outer() if world.name == "async" else outer()

        world.run(case)


class TestMaxPause:
    def test_after_a_single_chunk(self, world):
        """
        One chunk is no plural.
        """

        async def case():
            stream = world.open([1, 2], timeout=TimeoutConfig(max_pause=30.0))
            await stream.next()
            await world.pause(31.0)
            with pytest.raises(LimitExceeded, match="the stream was closed after 1 chunk, since"):
                await stream.next()

        world.run(case)

    def test_closes_what_the_consumer_lets_lie(self, world):
        """
        A consumer that comes back too late gets a clear error, once; nobody is blamed.
        """

        async def case():
            stream = world.open([1, 2, 3], timeout=TimeoutConfig(max_pause=30.0), circuit_breaker=breaker())
            await stream.next()
            await stream.next()
            await world.pause(31.0)
            with pytest.raises(LimitExceeded) as caught:
                await stream.next()

            assert (
                "writer.write: the stream was closed after 2 chunks, since it had not been read for 30 s: "
                "read it faster, or raise timeout.max_pause" == str(caught.value)
            )
            assert {"refused_by": "timeout", "max_pause": 30.0} == caught.value.details
            assert 2 == caught.value.arrived.chunks
            assert END == await stream.next()
            assert 1 == stream.script.closed
            assert CircuitState.CLOSED is stream.stream._stack.breaker.state

        world.run(case)

        (event,) = world.events
        assert (StreamAbandoned, "paused", 2) == (type(event), event.reason, event.chunks)

    def test_a_shorter_pause_is_fine(self, world):
        """
        Each pause is measured by itself.
        """

        async def case():
            stream = world.open([1, 2, 3], timeout=TimeoutConfig(max_pause=30.0))
            for _ in range(3):
                await stream.next()
                await world.pause(29.0)

            assert END == await stream.next()

        world.run(case)

        assert [] == world.events


class TestLeaving:
    def test_closing_is_neutral(self, world):
        """
        A stream that the consumer closes is neither success nor failure, and its code is ended.
        """

        async def case():
            stream = world.open([1, 2], circuit_breaker=breaker())
            await stream.next()
            await stream.close()
            await stream.close()

            assert END == await stream.next()
            assert 1 == stream.script.closed
            stats = stream.stream._stack.stats()
            assert (0, 0, {"stream_abandoned": 1}) == (stats.succeeded, stats.failed, stats.happened)

        world.run(case)

        assert ("closed", 1) == (world.events[0].reason, world.events[0].chunks)

    def test_closing_before_it_began(self, world):
        """
        Closing a stream that nobody has read runs nothing.
        """

        async def case():
            stream = world.open([1])
            await stream.close()

            assert END == await stream.next()
            assert 0 == stream.script.calls

        world.run(case)

    def test_one_that_was_tried_again_and_dropped_ends_at_once(self, world):
        """
        What an attempt failed of leads back to the stream that came after it: it is let go of, so nothing waits for
        the garbage collector.
        """

        def fail():
            raise ConnectionError

        async def case():
            stack = world.stack(retry=steady(), bulkhead=BulkheadConfig(max_concurrent=1, max_waiting=0))
            stream = world.open([fail], [1, 2], stack=stack)

            assert 1 == await stream.next()

            del stream
            await world.pause(1.0)

            assert 0 == stack.admission.bulkhead.in_use

        gc.disable()
        try:
            world.run(case)
        finally:
            gc.enable()

    def test_of_one_that_was_dropped_listeners_are_told_elsewhere(self, world):
        """
        Garbage may be collected anywhere, also inside of a listener, or with a lock held that it wants.
        """
        told = queue.SimpleQueue()
        stack = Stack(
            "shop.list",
            TargetPolicy(),
            clock=world.clock,
            emit=lambda event: told.put((event.reason, threading.current_thread())),
        )

        async def case():
            stream = world.open([1, 2], stack=stack)
            await stream.next()
            del stream
            gc.collect()

            reason, thread = told.get(timeout=10)
            assert "dropped" == reason
            assert threading.current_thread() is not thread

        world.run(case)

    @pytest.mark.parametrize("end", ["ended", "closed", "dropped", "broken", "paused"])
    def test_gives_a_trial_s_permit_back(self, world, end):
        """
        However a trial call's stream ends, its permit comes back once.
        """

        async def case():
            stack = world.stack(
                circuit_breaker=breaker(half_open_max_calls=1, success_threshold=2, cooldown=10.0),
                timeout=TimeoutConfig(max_pause=5.0),
            )
            with pytest.raises(ConnectionError):
                await world.open([gone()], stack=stack).next()
            await world.pause(10.0)
            stream = world.open([1, gone() if end == "broken" else 2], stack=stack)
            await stream.next()
            with pytest.raises(CircuitBreakerOpen):
                await world.open([1], stack=stack).next()
            if end == "ended":
                await stream.rest()
            elif end == "closed":
                await stream.close()
            elif end == "dropped":
                del stream
                gc.collect()
            elif end == "paused":
                await world.pause(6.0)
                with pytest.raises(LimitExceeded):
                    await stream.next()
            else:
                with pytest.raises(ConnectionError):
                    await stream.next()
                await world.pause(10.0)
            trial = world.open([1], stack=stack)

            assert [1] == await trial.rest()
            assert (CircuitState.CLOSED if end == "ended" else CircuitState.HALF_OPEN) is stack.breaker.state

        world.run(case)


class TestFallback:
    @pytest.mark.parametrize(
        ("step", "chunks"),
        [
            (FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="sorry"), ["sorry"]),
            (FallbackStep(FallbackStrategy.DEFAULT_VALUE, value=["a", "b"]), [["a", "b"]]),
            (FallbackStep(FallbackStrategy.NONE), []),
        ],
    )
    def test_a_value_is_a_stream_of_one_chunk(self, world, step, chunks):
        """
        What a fallback serves is the only chunk; `none` is a stream without any.
        """

        async def case():
            stream = world.open([gone()], fallback=(step,))

            assert chunks == await stream.rest()
            outcome = stream.stream.outcome()
            assert (step.strategy.value, True, len(chunks)) == (outcome.served_by, outcome.degraded, outcome.value)
            await stream.close()

        world.run(case)

        assert FallbackServed is type(world.events[-1])

    def test_the_cache_keeps_whole_streams(self, world):
        """
        The chunks of a stream that ended normally serve again, one by one; a broken or a closed one is not kept.
        """

        async def case():
            stack = world.stack(fallback=serves(FallbackStrategy.CACHE, cache=CacheConfig(ttl=60.0)))
            key = {"stack": stack, "key": lambda: "same"}
            closed = world.open([0, 1], **key)
            await closed.next()
            await closed.close()
            with pytest.raises(ConnectionError):
                await world.open([0, gone()], **key).rest()
            with pytest.raises(ConnectionError):
                await world.open([gone()], **key).rest()
            await world.open([1, 2], **key).rest()

            assert [1, 2] == await world.open([gone()], **key).rest()
            assert [1, 2] == await world.open([gone()], **key).rest()

        world.run(case)

    def test_the_cache_keeps_what_may_be_kept(self, world):
        """
        ``cacheable`` sees all chunks; what is longer than what is kept of a stream is not cached.
        """

        async def case():
            stack = world.stack(fallback=serves(FallbackStrategy.CACHE, cache=CacheConfig(ttl=60.0)))
            options = {"stack": stack, "key": lambda: "same", "cacheable": lambda chunks: chunks != (1, 2)}
            await world.open([1, 2], **options).rest()
            await world.open([*range(MAX_CHUNKS + 1)], **options).rest()
            with pytest.raises(ConnectionError):
                await world.open([gone()], **options).rest()

        world.run(case)


class TestLimits:
    def test_are_published_while_the_code_runs(self, world):
        """
        Each step of the code sees the time that is left to it; the consumer's code sees none of it.
        """
        seen = []

        def look():
            limits = current_limits()
            seen.append((limits.remaining(), limits.deadline is not None))

        async def case():
            stream = world.open(
                [look, 1, look, 2, look],
                deadline=60.0,
                timeout=TimeoutConfig(first_token=9.0, idle=4.0),
                cooperative=True,
            )
            await stream.next()
            outside = current_limits()
            await world.pause(30.0)
            await stream.rest()

            assert (None, None) == (outside.deadline, outside.ends)

        world.run(case)

        assert [(9.0, True), (4.0, True), (4.0, True)] == [(pytest.approx(left), bound) for left, bound in seen]


class TestLayersThatPassStreamsBy:
    def test_are_not_asked(self, world):
        """
        Streams are not hedged, not read through a cache, and no predicate is asked about them.
        """
        asked = []

        async def case():
            stack = Stack(
                "writer.write",
                TargetPolicy(
                    idempotent=True,
                    hedge=HedgeConfig(delay=0.5),
                    cache=CacheConfig(ttl=60.0),
                    retry=RetryConfig(retry_on_result="is_bad"),
                    rate_limit=RateLimitConfig(
                        max_calls=9, period=1.0, tokens=TokenLimitConfig(max_tokens=100, period=60.0, usage="usage")
                    ),
                ),
                clock=world.clock,
                find_function=lambda name: lambda value: asked.append((name, value)) or 7,
            )
            for number in (1, 2):
                stream = world.open([Hang(1.0), number], stack=stack, key=lambda: "same")
                assert [number] == await stream.rest()
                assert 1 == stream.script.calls
            broken = world.open([gone()], stack=stack, key=lambda: "same")
            with pytest.raises(ConnectionError):
                await broken.rest()

        world.run(case)

        assert [("usage", (1,)), ("usage", (2,))] == asked
