"""Streams of the async world: tasks, cancellation, event loops."""

import asyncio
import contextvars
import functools
import gc
import inspect

import pytest
from virtual_time import LoopClock, run_virtual

from pixel_llm.errors import ErrorCode, LimitExceeded, TimeoutError, ValidationError
from pixel_llm.policy import (
    BulkheadConfig,
    ChaosConfig,
    ChaosDelay,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    TargetPolicy,
    TimeoutConfig,
)
from pixel_llm.resilience import AsyncStream, Stack, current_limits, guard
from pixel_llm.resilience.fallbacks.wrapped import WrappedTargets
from pixel_llm.resilience.roads.binding import switched_off
from pixel_llm.resilience.streams.async_source import in_context

ONE_SLOT = BulkheadConfig(max_concurrent=1, max_waiting=0)
END = "the end"


@pytest.fixture
def clock():
    return LoopClock(1000.1)


@pytest.fixture
def events():
    return []


@pytest.fixture
def make_stack(clock, events):
    def make(**layers):
        return Stack("writer.write", TargetPolicy(**layers), clock=clock, emit=events.append)

    return make


@pytest.fixture
def run(clock):
    """Runs a case, after which no task may be left."""

    def run(case):
        async def main():
            await case()
            assert {asyncio.current_task()} == asyncio.all_tasks()

        run_virtual(clock, main())

    return run


async def counting(n=3):
    for number in range(n):
        await asyncio.sleep(0)
        yield number


class Hanging:
    """A stream that gives 0 and then nothing for a long time; it notes how it ended."""

    def __init__(self, at_the_end=None):
        self.ended = []
        self.at_the_end = at_the_end

    async def write(self):
        try:
            yield 0
            await asyncio.sleep(1000)
            yield 1
        except BaseException as error:
            self.ended.append(type(error))
            raise
        finally:
            if self.at_the_end is not None:
                await self.at_the_end()


class TestClosing:
    def test_interrupts_who_reads(self, run, make_stack, events):
        """
        A task that waits for a chunk of a stream which another task closes finds that it has ended.
        """

        async def case():
            hanging = Hanging()
            stack = make_stack(bulkhead=ONE_SLOT, circuit_breaker=CircuitBreakerConfig(failure_threshold=1))
            stream = guard(stack, hanging.write)()
            await anext(stream)
            reading = asyncio.create_task(anext(stream, END))
            await asyncio.sleep(1)
            await stream.aclose()

            assert END == await reading
            assert ([asyncio.CancelledError], 0) == (hanging.ended, reading.cancelling())
            assert (0, 0) == (stack.admission.bulkhead.in_use, stack.breaker.failures)
            assert ["closed"] == [event.reason for event in events]

        run(case)

    def test_before_the_first_content(self, run, make_stack):
        """
        Attempts and waits are interrupted as well.
        """

        async def hang():
            await asyncio.sleep(1000)
            yield 1

        async def case():
            stack = make_stack(bulkhead=ONE_SLOT)
            stream = guard(stack, hang)()
            reading = asyncio.create_task(anext(stream, END))
            await asyncio.sleep(1)
            await stream.aclose()
            await stream.aclose()

            assert END == await reading
            assert END == await anext(stream, END)
            assert 0 == stack.admission.bulkhead.in_use

        run(case)

    def test_by_several(self, run, make_stack):
        """
        Who closes what is being closed waits for that.
        """

        async def rest():
            await asyncio.sleep(5)

        async def case():
            stream = guard(make_stack(), Hanging(rest).write)()
            await anext(stream)
            closing = [asyncio.create_task(stream.aclose()) for _ in range(3)]
            await asyncio.sleep(1)

            assert END == await anext(stream, END)
            assert not any(task.done() for task in closing)
            await asyncio.gather(*closing)

        run(case)

    def test_given_up(self, run, make_stack):
        """
        Who gives up to wait for the end of a stream harms nobody.
        """

        async def rest():
            await asyncio.sleep(5)

        async def case():
            stream = guard(make_stack(), Hanging(rest).write)()
            await anext(stream)
            first, second = (asyncio.create_task(stream.aclose()) for _ in range(2))
            await asyncio.sleep(1)
            second.cancel()
            await first
            with pytest.raises(asyncio.CancelledError):
                await second

        run(case)

    def test_a_chunk_in_the_last_moment(self, run, make_stack):
        """
        A generator that answers its interruption with a chunk has that delivered; then it is closed.
        """

        async def stubborn():
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                yield "late"

        async def case():
            stream = guard(make_stack(), stubborn)()
            reading = asyncio.create_task(anext(stream, END))
            await asyncio.sleep(1)
            await stream.aclose()

            assert "late" == await reading
            assert 0 == reading.cancelling()
            assert END == await anext(stream, END)

        run(case)

    def test_cancelled_as_well(self, run, make_stack):
        """
        A task that is cancelled by somebody else, too, is cancelled.
        """

        async def case():
            stream = guard(make_stack(), Hanging().write)()
            await anext(stream)
            reading = asyncio.create_task(anext(stream, END))
            await asyncio.sleep(1)
            reading.cancel()
            await stream.aclose()
            with pytest.raises(asyncio.CancelledError):
                await reading

        run(case)

    def test_by_its_own_code(self, run, make_stack):
        """
        A generator that closes its own stream, or reads it, is told so.
        """

        async def closing():
            await stream.aclose()
            yield 1

        async def reading():
            yield await anext(stream)

        async def case():
            nonlocal stream
            stream = guard(make_stack(), closing)()
            with pytest.raises(RuntimeError, match="can't be closed by its own code"):
                await anext(stream)
            stream = guard(make_stack(), reading)()
            with pytest.raises(RuntimeError, match="or by its own code"):
                await anext(stream)

        stream = None
        run(case)

    def test_is_a_context_manager(self, run, make_stack):
        """
        Leaving it closes the stream.
        """

        async def case():
            hanging = Hanging()
            async with guard(make_stack(), hanging.write)() as stream:
                assert 0 == await anext(stream)

            assert [GeneratorExit] == hanging.ended

        run(case)


class TestCancellation:
    @pytest.mark.parametrize("content", [False, True])
    def test_always_arrives(self, run, make_stack, content):
        """
        Cancelling the reader cancels the code, gives back what it held, and counts for nothing.
        """

        async def write():
            if content:
                yield 0
            await asyncio.sleep(1000)
            yield 1

        async def case():
            stack = make_stack(
                bulkhead=ONE_SLOT,
                circuit_breaker=CircuitBreakerConfig(failure_threshold=1),
                timeout=TimeoutConfig(idle=2000.0),
            )
            stream = guard(stack, write)()
            if content:
                await anext(stream)
            reading = asyncio.create_task(anext(stream))
            await asyncio.sleep(1)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

            assert (0, 0) == (stack.admission.bulkhead.in_use, stack.breaker.failures)
            assert END == await anext(stream, END)

        run(case)

    def test_outlives_an_end_that_fails(self, run, make_stack):
        """
        What fails while a cancelled stream ends does not take the cancellation's place.
        """

        class Broken:
            def __aiter__(self):
                return self

            async def __anext__(self):
                await asyncio.sleep(1000)

            async def aclose(self):
                raise ValueError("can't end")

        async def give():
            return Broken()

        async def case():
            stack = make_stack(bulkhead=ONE_SLOT)
            reading = asyncio.create_task(anext(guard(stack, give, stream=True)()))
            await asyncio.sleep(1)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

            assert 0 == stack.admission.bulkhead.in_use

        run(case)

    def test_from_outside_the_time_limit(self, run, make_stack):
        """
        asyncio's own timeout around a chunk is a cancellation, not the server's fault.
        """

        async def case():
            stack = make_stack(timeout=TimeoutConfig(idle=50.0), circuit_breaker=CircuitBreakerConfig())
            stream = guard(stack, Hanging().write)()
            await anext(stream)
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(1):
                    await anext(stream)

            assert 0 == stack.breaker.failures

        run(case)


class TestTasksAndLoops:
    def test_any_task_may_read(self, run, make_stack):
        """
        The tasks of one loop may take turns.
        """

        async def case():
            stream = guard(make_stack(timeout=TimeoutConfig(idle=5.0)), counting)()
            read = [await asyncio.create_task(anext(stream)) for _ in range(3)]

            assert [0, 1, 2] == read

        run(case)

    def test_one_at_a_time(self, run, make_stack):
        """
        Who reads while another task does is told so, and the stream goes on unharmed.
        """

        async def case():
            stream = guard(make_stack(), counting)()
            reading = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="is being read by another task"):
                await anext(stream)

            assert 0 == await reading
            assert [1, 2] == [chunk async for chunk in stream]

        run(case)

    def test_another_loop_is_told_so(self, make_stack):
        """
        A stream belongs to the loop in which it began.
        """
        stream = guard(make_stack(), counting)()

        async def one():
            return await anext(stream)

        async def close():
            await stream.aclose()

        with asyncio.Runner() as first:
            assert 0 == first.run(one())
            with asyncio.Runner() as second:
                with pytest.raises(RuntimeError, match="belongs to the event loop that began to read it"):
                    second.run(one())
                with pytest.raises(RuntimeError, match="belongs to the event loop"):
                    second.run(close())

    def test_must_be_read_in_a_task(self, make_stack):
        """
        Without a task nothing could end it in time.
        """
        stream = guard(make_stack(), counting)()
        errors = []

        def step():
            try:
                anext(stream).__await__().send(None)
            except RuntimeError as error:
                errors.append(str(error))
            loop.stop()

        loop = asyncio.new_event_loop()
        loop.call_soon(step)
        loop.run_forever()
        loop.close()

        assert ["the stream of writer.write must be read in a task"] == errors

    def test_dropping_it_ends_the_code(self, run, make_stack, events):
        """
        The loop ends the generator that nobody has any more; what was held is given back at once.
        """

        async def case():
            hanging = Hanging()
            stack = make_stack(bulkhead=ONE_SLOT)
            stream = guard(stack, hanging.write)()
            await anext(stream)
            del stream
            gc.collect()
            before = stack.admission.bulkhead.in_use
            await asyncio.sleep(1)

            assert (0, [GeneratorExit]) == (before, hanging.ended)

        run(case)

    def test_one_that_outlives_its_loop(self, make_stack):
        """
        What a stream held comes back although its loop is gone.
        """
        stack = make_stack(bulkhead=ONE_SLOT)
        streams = []

        async def main():
            streams.append(guard(stack, counting)())
            await anext(streams[0])

        asyncio.run(main())
        streams.clear()
        gc.collect()

        assert 0 == stack.admission.bulkhead.in_use


class TestPause:
    def test_is_ended_while_nobody_reads(self, run, make_stack, events):
        """
        What a consumer lets lie is closed when the time is up, not when the consumer comes back.
        """

        async def case():
            hanging = Hanging()
            stack = make_stack(timeout=TimeoutConfig(max_pause=5.0), bulkhead=ONE_SLOT)
            stream = guard(stack, hanging.write)()
            await anext(stream)
            await asyncio.sleep(5.1)

            assert ([GeneratorExit], ["paused"], 0) == (
                hanging.ended,
                [event.reason for event in events],
                stack.admission.bulkhead.in_use,
            )
            with pytest.raises(LimitExceeded, match="closed after 1 chunk, since"):
                await anext(stream)
            assert END == await anext(stream, END)

        run(case)

    def test_the_loop_was_busy(self, run, clock, make_stack):
        """
        Whoever comes back too late finds it closed, although no timer has had a chance to fire.
        """

        async def case():
            hanging = Hanging()
            stream = guard(make_stack(timeout=TimeoutConfig(max_pause=5.0)), hanging.write)()
            await anext(stream)
            clock.advance(6.0)
            with pytest.raises(LimitExceeded):
                await anext(stream)

            assert [GeneratorExit] == hanging.ended

        run(case)

    def test_an_end_that_fails_is_logged(self, run, make_stack, caplog):
        """
        Nobody waits for the end of a stream that was let lie, so what fails there goes to the log.
        """

        async def fail():
            raise ValueError("can't end")

        async def case():
            stream = guard(make_stack(timeout=TimeoutConfig(max_pause=5.0)), Hanging(fail).write)()
            await anext(stream)
            await asyncio.sleep(6)

        run(case)

        assert "a stream that was closed failed to end" in caplog.text

    def test_one_that_is_read_is_left_alone(self, run, make_stack):
        """
        While somebody waits for a chunk, nothing lies; and what has ended is not looked after.
        """

        async def write():
            yield 0
            await asyncio.sleep(60)
            yield 1

        async def case():
            stream = guard(make_stack(timeout=TimeoutConfig(max_pause=5.0)), write)()
            read = [chunk async for chunk in stream]
            await asyncio.sleep(6)
            stream._look()

            assert [0, 1] == read
            assert [] == [chunk async for chunk in stream]

        run(case)

    def test_one_that_was_dropped_is_not_kept(self, run, make_stack):
        """
        Its timer keeps no stream alive.
        """

        async def case():
            stream = guard(make_stack(timeout=TimeoutConfig(max_pause=5.0)), counting)()
            await anext(stream)
            del stream
            gc.collect()
            await asyncio.sleep(6)

        run(case)


class TestContext:
    def test_is_the_stream_s_own(self, run, make_stack):
        """
        What the generator sets is there in its next step, and nowhere else.
        """
        variable = contextvars.ContextVar("variable", default="outside")
        seen = []

        async def write():
            token = variable.set("inside")
            yield 1
            await asyncio.sleep(1)
            seen.append(variable.get())
            variable.reset(token)
            yield 2

        async def case():
            async for _ in guard(make_stack(timeout=TimeoutConfig(idle=5.0)), write)():
                assert "outside" == variable.get()

        run(case)

        assert ["inside"] == seen

    def test_one_that_nobody_awaits_any_more(self):
        """
        A reader that is dropped in the middle of a step ends it.
        """
        closed = []

        async def hang():
            try:
                await asyncio.sleep(1000)
            finally:
                closed.append(True)

        async def case():
            step = in_context(contextvars.copy_context(), hang())
            step.send(None)
            step.close()

        asyncio.run(case())

        assert [True] == closed


class TestWhatGivesStreams:
    def test_coroutine_functions(self, run, make_stack):
        """
        With ``stream=True`` a coroutine function that returns an async iterator gives a stream, closed in any case.
        """

        class Response:
            def __init__(self):
                self.chunks, self.closed = iter([1, 2]), 0

            def __aiter__(self):
                return self

            async def __anext__(self):
                try:
                    return next(self.chunks)
                except StopIteration:
                    raise StopAsyncIteration from None

            async def close(self):
                self.closed += 1

        async def case():
            for left in (False, True):
                response = Response()

                async def ask(response=response):
                    return response

                stream = guard(make_stack(), ask, stream=True)()
                read = [await anext(stream)]
                if left:
                    await stream.aclose()
                read.extend([chunk async for chunk in stream])

                assert (1, [1] if left else [1, 2]) == (response.closed, read)

        run(case)

    def test_what_is_no_iterator_is_the_only_chunk(self, run, make_stack):
        """
        A list is a value.
        """

        async def ask():
            return [1, 2]

        async def case():
            assert [[1, 2]] == [chunk async for chunk in guard(make_stack(), ask, stream=True)()]

        run(case)

    def test_an_iterator_with_a_plain_end(self, run, make_stack):
        """
        An iterator may have a plain function to close it.
        """
        closed = []

        class Response:
            def __aiter__(self):
                return self

            async def __anext__(self):
                return 1

            def close(self):
                closed.append(True)

        async def ask():
            return Response()

        async def case():
            async with guard(make_stack(), ask, stream=True)() as stream:
                assert 1 == await anext(stream)

        run(case)

        assert [True] == closed

    @pytest.mark.parametrize("give", [lambda: iter([1]), lambda: (number for number in [1])])
    def test_a_sync_stream_is_refused(self, run, make_stack, give):
        """
        Reading it would block the event loop.
        """

        async def ask():
            return give()

        async def case():
            with pytest.raises(ValidationError, match="would block the event loop"):
                await anext(guard(make_stack(), ask, stream=True)())

        run(case)

    def test_a_sync_stream_that_is_refused_is_closed(self, run, make_stack):
        """
        Its own code ends, as if it had been read.
        """
        closed = []

        class Lines:
            def __next__(self):
                return 1

            def close(self):
                closed.append(True)

        async def ask():
            return Lines()

        async def case():
            with pytest.raises(ValidationError):
                await anext(guard(make_stack(), ask, stream=True)())

        run(case)

        assert [True] == closed

    def test_a_chunk_that_is_there_takes_no_turn(self, run, make_stack):
        """
        What does not suspend is given at once: the event loop is not asked.
        """

        async def write():
            yield 1

        async def case():
            step = anext(guard(make_stack(), write)()).__await__()
            with pytest.raises(StopIteration) as ended:
                step.send(None)

            assert 1 == ended.value.value

        run(case)

    def test_guards_can_be_guarded(self, run, make_stack):
        """
        The guard of a stream's guard gives a stream, too.
        """

        async def case():
            stream = guard(make_stack(deadline=5.0), guard(make_stack(), counting))()

            assert isinstance(stream, AsyncStream)
            assert [0, 1, 2] == [chunk async for chunk in stream]

        run(case)

    def test_with_stacks_switched_off(self, run, make_stack):
        """
        With its stack switched off a stream is what it was, without layers.
        """

        async def ask():
            return counting()

        async def case():
            for function, options in ((counting, {}), (ask, {"stream": True})):
                guarded = guard(make_stack(timeout=TimeoutConfig(max_pause=5.0)), function, **options)
                with switched_off():
                    stream = guarded()

                assert [0, 1, 2] == [chunk async for chunk in stream]

        run(case)

    def test_chaos(self, run, make_stack):
        """
        Faults are injected before the first content.
        """

        async def case():
            stack = make_stack(chaos=ChaosConfig(delay=ChaosDelay(rate=1.0, duration=3.0)))
            stream = guard(stack, counting)()

            assert [0, 1, 2] == [chunk async for chunk in stream]
            assert 3.0 == pytest.approx(stream.outcome().elapsed)

        run(case)


class TestTime:
    def test_of_a_chunk_that_comes_too_late(self, run, make_stack):
        """
        A generator that answers the end of its time with a chunk has that delivered.
        """

        async def stubborn():
            yield 0
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                yield "late"

        async def case():
            stream = guard(make_stack(timeout=TimeoutConfig(idle=5.0)), stubborn)()

            assert [0, "late"] == [chunk async for chunk in stream]

        run(case)

    def test_an_end_that_fails_after_the_deadline(self, run, make_stack):
        """
        The deadline is what the consumer hears of; why the code did not end well is its cause.
        """

        async def fail():
            raise ValueError("can't end")

        async def case():
            stream = guard(make_stack(deadline=5.0), Hanging(fail).write)()
            await anext(stream)
            await asyncio.sleep(6)
            with pytest.raises(TimeoutError) as caught:
                await anext(stream)

            assert ErrorCode.ERR_TIMEOUT_DEADLINE is caught.value.error_code
            assert "can't end" == str(caught.value.__cause__)

        run(case)


class TestOtherSteps:
    async def fails(self):
        raise ConnectionError
        yield

    def other(self, clock, function, **more):
        steps = (FallbackStep(FallbackStrategy.CUSTOM_FUNCTION, value="other"),)
        policy = TargetPolicy(fallback=steps, deadline=60.0, **more)
        return Stack("writer.write", policy, clock=clock, find_function=lambda name: function)

    def test_may_give_a_stream(self, run, clock):
        """
        A function that gives a stream serves once its first chunk is there; within what is left of the deadline.
        """
        seen = []

        async def other():
            seen.append(current_limits().remaining())
            yield "a"
            yield "b"

        async def case():
            stream = guard(self.other(clock, other), self.fails)()

            assert ["a", "b"] == [chunk async for chunk in stream]
            assert (True, 2) == (stream.outcome().degraded, stream.outcome().value)
            assert [pytest.approx(60.0)] == seen

        run(case)

    def test_may_give_an_empty_stream(self, run, clock):
        """
        No chunk at all is an answer too.
        """

        async def other():
            return
            yield

        async def case():
            stream = guard(self.other(clock, other), self.fails)()

            assert [] == [chunk async for chunk in stream]
            assert (True, 0) == (stream.outcome().degraded, stream.outcome().value)

        run(case)

    def test_closing_ends_it(self, run, clock):
        """
        Closing the stream closes what serves in its place.
        """
        hanging = Hanging()

        async def case():
            stream = guard(self.other(clock, hanging.write), self.fails)()
            await anext(stream)
            await stream.aclose()

            assert ([GeneratorExit], END) == (hanging.ended, await anext(stream, END))

        run(case)

    def test_one_that_breaks(self, run, clock):
        """
        What breaks while it serves is raised.
        """

        async def other():
            yield "a"
            raise ValueError("broken")

        async def case():
            stream = guard(self.other(clock, other), self.fails)()
            await anext(stream)
            with pytest.raises(ValueError, match="broken"):
                await anext(stream)
            assert END == await anext(stream, END)

        run(case)

    def test_values_and_coroutines(self, run, clock):
        """
        A function's value, sync or async, is the only chunk; a sync stream does not serve.
        """

        async def later():
            return "later"

        async def case():
            for function, chunks in ((lambda: "now", ["now"]), (later, ["later"])):
                stream = guard(self.other(clock, function), self.fails)()
                assert chunks == [chunk async for chunk in stream]
            with pytest.raises(ConnectionError):
                await anext(guard(self.other(clock, lambda: iter("ab")), self.fails)())

        run(case)

    def test_another_target_and_another_model(self, run, clock):
        """
        Another target's stream, or another model's, serves behind its own stack.
        """

        async def case():
            wrapped = WrappedTargets({"writer.other"})
            guard(Stack("writer.other", TargetPolicy(), clock=clock, wrapped=wrapped), counting)
            steps = (FallbackStep(FallbackStrategy.TARGET, value="writer.other"),)
            stack = Stack("writer.write", TargetPolicy(fallback=steps, deadline=60.0), clock=clock, wrapped=wrapped)
            assert [0, 1, 2] == [chunk async for chunk in guard(stack, self.fails)()]
            steps = (FallbackStep(FallbackStrategy.MODEL, value="small"),)
            stack = Stack("writer.write", TargetPolicy(fallback=steps, deadline=60.0), clock=clock)
            stream = guard(stack, self.fails, alternative=lambda kind, name: functools.partial(counting, 2))()
            assert [0, 1] == [chunk async for chunk in stream]

        run(case)


def test_the_guard_is_no_coroutine_function(make_stack):
    """
    Calling the guard gives the stream itself, nothing to await.
    """
    guarded = guard(make_stack(), counting)

    assert not inspect.iscoroutinefunction(guarded)
    assert isinstance(guarded(), AsyncStream)
