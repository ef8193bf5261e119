"""Streams of the sync world: threads, and what only generators do."""

import contextvars
import dataclasses
import functools
import gc
import threading
import time
import weakref

import pytest

from pixel_llm.errors import ErrorCode, LimitExceeded, TimeoutError, ValidationError
from pixel_llm.events import AbandonedThreadEnded, StreamAbandoned, ThreadAbandoned
from pixel_llm.policy import (
    BulkheadConfig,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    RetryConfig,
    TargetPolicy,
    TimeoutConfig,
)
from pixel_llm.resilience import Stack, SyncStream, current_limits, guard
from pixel_llm.resilience.clock import EndableClock
from pixel_llm.resilience.limits import publish, reset_published
from pixel_llm.resilience.roads.binding import switched_off
from pixel_llm.resilience.streams.delivery import END
from pixel_llm.resilience.streams.sync_source import Steps, ThreadSource
from pixel_llm.testing import VirtualClock

ONE_SLOT = BulkheadConfig(max_concurrent=1, max_waiting=0)


def eventually(condition):
    ends = time.monotonic() + 5.0
    while not condition() and time.monotonic() < ends:
        time.sleep(0.001)
    return condition()


def make_stack(emit=None, clock=None, **layers):
    return Stack("writer.write", TargetPolicy(**layers), emit=emit, clock=clock or VirtualClock(1000.0))


def counting(n=3):
    yield from range(n)


class TestThreads:
    def test_may_be_read_in_several(self):
        """
        A stream that was begun in one thread may be read on in another one.
        """
        stream = guard(make_stack(timeout=TimeoutConfig(idle=5.0)), counting)()
        read = [next(stream)]
        thread = threading.Thread(target=lambda: read.extend(stream))
        thread.start()
        thread.join()

        assert [0, 1, 2] == read

    def test_by_one_at_a_time(self):
        """
        Who reads while another thread does is told so, and the stream goes on unharmed.
        """
        go_on, began = threading.Event(), threading.Event()

        def write():
            began.set()
            go_on.wait(5)
            yield 1

        stream = guard(make_stack(), write)()
        read = []
        thread = threading.Thread(target=lambda: read.extend(stream))
        thread.start()
        began.wait(5)
        with pytest.raises(RuntimeError, match=r"the stream of writer\.write is being read by another thread"):
            next(stream)
        go_on.set()
        thread.join()

        assert [1] == read

    def test_closing_one_that_is_read(self):
        """
        It ends as soon as its reader has the chunk.
        """
        go_on, began, closed = threading.Event(), threading.Event(), []

        def write():
            try:
                began.set()
                go_on.wait(5)
                yield 1
                yield 2
            finally:
                closed.append(True)

        stream = guard(make_stack(), write)()
        read = []
        thread = threading.Thread(target=lambda: read.extend(stream))
        thread.start()
        began.wait(5)
        stream.close()
        go_on.set()
        thread.join()

        assert ([1], [True]) == (read, closed)

    def test_reading_one_that_is_being_closed(self):
        """
        Whoever comes to read while another thread closes it finds its end, and waits for nobody.
        """
        closing, go_on = threading.Event(), threading.Event()

        def write():
            try:
                yield 1
                yield 2
            finally:
                closing.set()
                go_on.wait(5)

        stream = guard(make_stack(), write)()
        read = [next(stream)]
        closer = threading.Thread(target=stream.close)
        closer.start()
        try:
            assert closing.wait(5)
            read.extend(stream)
        finally:
            go_on.set()
            closer.join()

        assert [1] == read

    def test_its_own_code_cannot_read_it(self):
        """
        A generator that asks itself for a chunk is told so.
        """

        def write():
            yield next(stream)

        stream = guard(make_stack(), write)()
        with pytest.raises(RuntimeError, match="or by its own code"):
            next(stream)


class TestOwnThread:
    def test_runs_all_steps_in_one(self):
        """
        With a limit on its steps the generator runs in one other thread from its first step to its last.
        """
        seen = []

        def write():
            try:
                seen.append(threading.current_thread())
                yield 1
                seen.append(threading.current_thread())
                yield 2
            finally:
                seen.append(threading.current_thread())

        stream = guard(make_stack(timeout=TimeoutConfig(idle=5.0)), write)()
        read = [next(stream), next(stream)]
        stream.close()

        assert [1, 2] == read
        assert 1 == len(set(seen))
        assert threading.current_thread() not in seen
        assert "pixel-llm writer.write" == seen[0].name

    @pytest.mark.parametrize("limits", [{"attempt": 5.0}, {"first_token": 5.0}])
    def test_one_that_hangs_is_left_behind(self, limits):
        """
        The caller leaves in time; the thread counts as abandoned, and keeps the slot, until the step ends.
        """
        clock, events, go_on = VirtualClock(1000.0), [], threading.Event()

        def write():
            clock.advance(6.0)
            go_on.wait(5)
            yield 1

        stack = make_stack(events.append, clock, timeout=TimeoutConfig(**limits), bulkhead=ONE_SLOT)
        with pytest.raises(TimeoutError):
            next(guard(stack, write)())
        with pytest.raises(LimitExceeded):
            next(guard(stack, counting)())
        go_on.set()

        assert eventually(lambda: AbandonedThreadEnded in map(type, events))
        assert ThreadAbandoned is type(events[0])
        assert 6.0 == pytest.approx(events[0].elapsed)
        assert [0, 1, 2] == list(guard(stack, counting)())

    def test_too_many_that_hang(self):
        """
        At the limit further streams are refused before anything starts.
        """
        clock, go_on = VirtualClock(1000.0), threading.Event()

        def write():
            clock.advance(6.0)
            go_on.wait(5)
            yield 1

        stack = make_stack(None, clock, timeout=TimeoutConfig(attempt=5.0, max_abandoned_threads=1))
        with pytest.raises(TimeoutError):
            next(guard(stack, write)())
        with pytest.raises(LimitExceeded, match="a thread runs on"):
            next(guard(stack, counting)())
        go_on.set()

    def test_dropping_ends_the_code(self):
        """
        A stream that nobody has any more ends in its thread, and gives its slot back.
        """
        closed = threading.Event()

        def write():
            try:
                yield 1
                yield 2
            finally:
                closed.set()

        stack = make_stack(timeout=TimeoutConfig(idle=5.0), bulkhead=ONE_SLOT)
        stream = guard(stack, write)()
        next(stream)
        del stream

        assert closed.wait(5)
        assert eventually(lambda: not stack.admission.bulkhead.in_use)

    def test_an_end_that_fails(self):
        """
        What the generator raises when it is closed is raised where it is closed.
        """

        def write():
            try:
                yield 1
            finally:
                raise ValueError("can't end")

        stack = make_stack(timeout=TimeoutConfig(idle=5.0), bulkhead=ONE_SLOT)
        stream = guard(stack, write)()
        next(stream)
        with pytest.raises(ValueError, match="can't end"):
            stream.close()

        assert 0 == stack.admission.bulkhead.in_use

    @pytest.mark.parametrize("limits", [{"idle": 5.0}, {"attempt": 5.0}, {"first_token": 60.0, "idle": 5.0}])
    def test_an_end_that_hangs(self, limits):
        """
        Closing takes no longer than a chunk may, or the first content; then the thread is left behind.
        """
        clock, go_on, events = VirtualClock(1000.0), threading.Event(), []

        def write():
            try:
                yield 1
            finally:
                clock.advance(6.0)
                go_on.wait(5)

        stream = guard(make_stack(events.append, clock, timeout=TimeoutConfig(**limits)), write)()
        next(stream)
        stream.close()

        assert {"stream_abandoned", "thread_abandoned"} == {event.name for event in events}
        go_on.set()
        assert eventually(lambda: AbandonedThreadEnded in map(type, events))

    def test_an_answer_in_the_last_moment(self):
        """
        A chunk that is there when the time is up is delivered.
        """
        clock, answered = VirtualClock(1000.0), threading.Event()

        class Late(ThreadSource):
            def _wait(self, ends):
                answered.wait(5)
                eventually(lambda: not self._server.answers.empty())
                clock.advance(60.0)
                return super()._wait(ends)

        def write():
            answered.set()
            yield 1

        stack = make_stack(None, clock)
        source = Late(stack, Steps(stack, write, [1005.0, 1005.0, None, 0]), lambda: None)

        assert 1 == source.next([1005.0], lambda limits: AssertionError())

    def test_an_answer_that_is_on_its_way(self):
        """
        Of a thread that has ended the last answer is waited for.
        """
        stack = make_stack()
        source = ThreadSource(stack, Steps(stack, counting, [1005.0, 1005.0, None, 0]), lambda: None)
        source.drop()
        assert eventually(lambda: source._server.ended)
        source._server.answers.get(timeout=5)
        threading.Timer(0.05, source._server.answers.put, ((END, None),)).start()

        assert (END, None) == source._server.leave(1.0)

    def test_no_thread_to_be_had(self, monkeypatch):
        """
        Where the system has no further thread the attempt fails, and its slot comes back.
        """

        def none(*task):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr("pixel_llm.resilience.streams.sync_source.WORKERS.run", none)
        stack = make_stack(timeout=TimeoutConfig(idle=5.0), bulkhead=ONE_SLOT)
        with pytest.raises(RuntimeError, match="can't start"):
            next(guard(stack, counting)())

        assert 0 == stack.admission.bulkhead.in_use

    def test_a_key_press_while_it_waits(self):
        """
        KeyboardInterrupt leaves the thread behind, neutrally.
        """
        go_on, events = threading.Event(), []

        class Interrupted(VirtualClock):
            def patience(self, seconds):
                if ready:
                    raise KeyboardInterrupt
                return super().patience(seconds)

        def write():
            yield 1
            go_on.wait(5)

        ready = []
        stack = make_stack(
            events.append, Interrupted(), timeout=TimeoutConfig(idle=5.0), circuit_breaker=CircuitBreakerConfig()
        )
        stream = guard(stack, write)()
        next(stream)
        ready.append(True)
        with pytest.raises(KeyboardInterrupt):
            next(stream)
        go_on.set()

        assert "cancelled" in [event.reason for event in events if isinstance(event, StreamAbandoned)]
        assert [] == list(stream)


class TestSlots:
    @pytest.mark.parametrize("timeout", [None, TimeoutConfig(idle=5.0, max_pause=5.0)])
    @pytest.mark.parametrize("end", ["ended", "closed", "dropped", "broken", "paused", "failed"])
    def test_come_back_once(self, timeout, end):
        """
        The slot is held until the stream's code has ended, whatever ends it.
        """

        def write():
            if end == "failed":
                raise ConnectionError
            yield 1
            if end == "broken":
                raise ConnectionError

        clock = VirtualClock(1000.0)
        stack = make_stack(None, clock, bulkhead=ONE_SLOT, timeout=timeout)
        stream = guard(stack, write)()
        if end == "failed":
            with pytest.raises(ConnectionError):
                next(stream)
        else:
            next(stream)
            assert 1 == stack.admission.bulkhead.in_use
        if end == "ended":
            assert [] == list(stream)
        elif end == "closed":
            stream.close()
        elif end == "dropped":
            del stream
            gc.collect()
        elif end == "paused" and timeout is not None:
            clock.advance(6.0)
        elif end == "paused":
            stream.close()
        elif end == "broken":
            with pytest.raises(ConnectionError):
                next(stream)

        assert eventually(lambda: not stack.admission.bulkhead.in_use)


class TestDropped:
    @pytest.fixture(autouse=True)
    def no_garbage(self):
        """No garbage is collected: what is dropped ends at once, or not at all."""
        gc.disable()
        yield
        gc.enable()

    @pytest.mark.parametrize("timeout", [None, TimeoutConfig(idle=5.0), TimeoutConfig(first_token=5.0)])
    def test_one_that_was_tried_again(self, timeout):
        """
        What the first attempt failed of does not keep the stream, nor its slot.
        """
        attempts = []

        def write():
            attempts.append(True)
            if len(attempts) == 1:
                raise ConnectionError("gone")
            yield 1
            yield 2

        retry = RetryConfig(initial_delay=0.0, max_attempts=2)
        stack = make_stack(timeout=timeout, bulkhead=ONE_SLOT, retry=retry)

        def read_one():
            return next(guard(stack, write)())

        assert 1 == read_one()
        assert eventually(lambda: not stack.admission.bulkhead.in_use)

    @pytest.mark.parametrize("timeout", [None, TimeoutConfig(idle=5.0)])
    def test_one_that_a_fallback_serves(self, timeout):
        """
        What serves in its place ends, though the outcome tells what it stands in for.
        """
        closed = threading.Event()

        def other():
            try:
                yield "a"
                yield "b"
            finally:
                closed.set()

        def fails():
            raise ConnectionError("gone")
            yield

        steps = (FallbackStep(FallbackStrategy.CUSTOM_FUNCTION, value="other"),)
        policy = TargetPolicy(fallback=steps, timeout=timeout, retry=RetryConfig(max_attempts=1))
        stack = Stack("writer.write", policy, clock=VirtualClock(1000.0), find_function=lambda name: other)

        def read_one():
            stream = guard(stack, fails)()
            return next(stream), stream.outcome()

        chunk, outcome = read_one()

        assert ("a", "gone", True) == (chunk, str(outcome.error), outcome.degraded)
        assert closed.wait(5)

    def test_an_end_that_failed(self):
        """
        What the code failed of when it was closed keeps nothing, either.
        """

        class Held:
            pass

        def write():
            try:
                yield 1
            finally:
                raise ValueError("can't end")

        def close_one():
            held = Held()
            stream = guard(make_stack(timeout=TimeoutConfig(idle=5.0)), write)()
            next(stream)
            with pytest.raises(ValueError, match="can't end"):
                stream.close()
            return weakref.ref(held)

        assert close_one()() is None


class TestPause:
    def test_is_ended_while_nobody_reads(self):
        """
        What a consumer lets lie is closed when the time is up, not when the consumer comes back.
        """
        clock, events, closed = VirtualClock(1000.0), [], threading.Event()

        def write():
            try:
                yield 1
                yield 2
            finally:
                closed.set()

        stack = make_stack(events.append, clock, timeout=TimeoutConfig(max_pause=5.0), bulkhead=ONE_SLOT)
        stream = guard(stack, write)()
        next(stream)
        clock.advance(5.0)

        assert closed.wait(5)
        assert eventually(lambda: not stack.admission.bulkhead.in_use)
        assert eventually(lambda: ["paused"] == [event.reason for event in events])
        with pytest.raises(LimitExceeded, match="closed after 1 chunk, since"):
            next(stream)
        assert [] == list(stream)

    def test_an_end_that_fails_is_logged(self, caplog):
        """
        Nobody waits for the end of a stream that was let lie, so what fails there goes to the log.
        """
        clock = VirtualClock(1000.0)

        def write():
            try:
                yield 1
            finally:
                raise ValueError("can't end")

        stream = guard(make_stack(None, clock, timeout=TimeoutConfig(max_pause=5.0)), write)()
        next(stream)
        clock.advance(5.0)

        assert eventually(lambda: "a stream that was closed failed to end" in caplog.text)

    def test_one_that_is_read_is_left_alone(self):
        """
        While somebody waits for a chunk, nothing lies.
        """
        clock, stack = VirtualClock(1000.0), None
        looked = []

        def write():
            yield 1
            clock.advance(60.0)
            stream._look()
            looked.append(True)
            yield 2

        stack = make_stack(None, clock, timeout=TimeoutConfig(max_pause=5.0))
        stream = guard(stack, write)()

        assert [1, 2] == list(stream)
        assert [True] == looked
        stream._look()

    def test_one_that_does_not_lie_for_long(self):
        """
        Who looks too early looks again later; who finds it ended does nothing.
        """
        clock = VirtualClock(1000.0)
        stream = guard(make_stack(None, clock, timeout=TimeoutConfig(max_pause=5.0)), counting)()
        read = [next(stream)]
        clock.advance(4.9)
        stream._look()
        read.extend(stream)
        stream._look()
        stream._shut("closed")

        assert [0, 1, 2] == read

    def test_a_reader_waits_for_who_looks(self):
        """
        Whoever asks for a chunk while it is looked after gets it.
        """
        stream = guard(make_stack(timeout=TimeoutConfig(max_pause=5.0)), counting)()
        next(stream)
        stream._busy.acquire()
        threading.Timer(0.05, stream._busy.release).start()

        assert 1 == next(stream)


class TestContext:
    def test_is_the_stream_s_own(self):
        """
        What the generator sets is there in its next step, and nowhere else.
        """
        variable = contextvars.ContextVar("variable", default="outside")
        seen = []

        def write():
            token = variable.set("inside")
            yield 1
            seen.append(variable.get())
            variable.reset(token)
            yield 2

        for timeout in (None, TimeoutConfig(idle=5.0)):
            stream = guard(make_stack(timeout=timeout), write)()
            for _ in stream:
                assert "outside" == variable.get()

        assert ["inside", "inside"] == seen

    def test_is_that_of_the_first_reader(self):
        """
        The generator sees the variables of whoever asks for the first chunk.
        """
        variable = contextvars.ContextVar("variable", default="nobody")

        def write():
            yield variable.get()

        stream = guard(make_stack(), write)()
        context = contextvars.copy_context()
        context.run(variable.set, "reader")

        assert "reader" == context.run(next, stream)


class Response:
    """An iterator with an end of its own, like that of an HTTP client."""

    def __init__(self, chunks):
        self.chunks, self.closed = iter(chunks), 0

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.chunks)

    def close(self):
        self.closed += 1


class TestWhatGivesStreams:
    def test_functions_that_return_iterators(self):
        """
        With ``stream=True`` a function that returns an iterator gives a stream, which is closed in any case.
        """
        for left in (False, True):
            response = Response([1, 2])
            stream = guard(make_stack(), lambda response=response: response, stream=True)()
            read = [next(stream)]
            if left:
                stream.close()
            read.extend(stream)

            assert (1, [1] if left else [1, 2]) == (response.closed, read)

    def test_what_is_no_iterator_is_the_only_chunk(self):
        """
        A list is a value; whoever means its items writes ``iter()``.
        """
        assert [[1, 2]] == list(guard(make_stack(), lambda: [1, 2], stream=True)())

    def test_an_async_stream_is_refused(self):
        """
        A sync function can't give an async stream.
        """

        async def write():
            yield 1

        with pytest.raises(ValidationError, match="make it a coroutine function"):
            next(guard(make_stack(), lambda: write(), stream=True)())

    def test_guards_can_be_guarded(self):
        """
        The guard of a stream's guard gives a stream, too.
        """
        stream = guard(make_stack(deadline=5.0), guard(make_stack(), counting))()

        assert isinstance(stream, SyncStream)
        assert [0, 1, 2] == list(stream)

    def test_methods(self):
        """
        A generator in a class body becomes a method that gives streams.
        """

        class Writer:
            word = "word"

            @functools.partial(guard, make_stack())
            def write(self):
                yield self.word

        assert ["word"] == list(Writer().write())

    def test_with_stacks_switched_off(self):
        """
        With its stack switched off a stream is what it was, without layers.
        """
        guarded = guard(make_stack(timeout=TimeoutConfig(max_pause=5.0)), counting)
        with switched_off():
            stream = guarded()

        assert [0, 1, 2] == list(stream)
        assert 3 == stream.outcome().value

    def test_is_a_context_manager(self):
        """
        Leaving it closes the stream.
        """
        closed = []

        def write():
            try:
                yield 1
            finally:
                closed.append(True)

        with guard(make_stack(), write)() as stream:
            assert 1 == next(stream)

        assert [True] == closed
        assert "writer.write" == stream.target


class TestBrokenOff:
    def test_a_key_press_is_neutral(self):
        """
        KeyboardInterrupt counts for nothing, before and after the first content.
        """

        def first():
            raise KeyboardInterrupt
            yield

        def later():
            yield 1
            raise KeyboardInterrupt

        stack = make_stack(circuit_breaker=CircuitBreakerConfig(failure_threshold=1), bulkhead=ONE_SLOT)
        with pytest.raises(KeyboardInterrupt):
            next(guard(stack, first)())
        with pytest.raises(KeyboardInterrupt):
            list(guard(stack, later)())

        assert (0, 0) == (stack.breaker.failures, stack.admission.bulkhead.in_use)

    def test_an_end_that_fails_after_the_deadline(self):
        """
        The deadline is what the consumer hears of; why the code did not end well is its cause.
        """
        clock = VirtualClock(1000.0)

        def write():
            try:
                yield 1
            finally:
                raise ValueError("can't end")

        stream = guard(make_stack(None, clock, deadline=5.0), write)()
        next(stream)
        clock.advance(6.0)
        with pytest.raises(TimeoutError) as caught:
            next(stream)

        assert ErrorCode.ERR_TIMEOUT_DEADLINE is caught.value.error_code
        assert "can't end" == str(caught.value.__cause__)


class TestOtherSteps:
    def fallback(self, function):
        steps = (FallbackStep(FallbackStrategy.CUSTOM_FUNCTION, value="other"),)
        return Stack(
            "writer.write",
            TargetPolicy(fallback=steps, deadline=60.0, retry=RetryConfig(max_attempts=1)),
            clock=VirtualClock(1000.0),
            find_function=lambda name: function,
        )

    def fails(self):
        raise ConnectionError
        yield

    def test_may_give_a_stream(self):
        """
        A function that gives a stream serves once its first chunk is there; within what is left of the deadline.
        """
        seen = []

        def other():
            seen.append(current_limits().remaining())
            yield "a"
            yield "b"

        stream = guard(self.fallback(other), self.fails)()
        read = list(stream)

        assert (["a", "b"], [60.0]) == (read, seen)
        assert (True, 2) == (stream.outcome().degraded, stream.outcome().value)

    def test_closing_ends_it(self):
        """
        Closing the stream closes what serves in its place.
        """
        response = Response(["a", "b"])
        stream = guard(self.fallback(lambda: response), self.fails)()
        next(stream)
        stream.close()

        assert (1, []) == (response.closed, list(stream))

    def test_one_that_breaks(self):
        """
        What breaks while it serves is raised.
        """

        def other():
            yield "a"
            raise ValueError("broken")

        stream = guard(self.fallback(other), self.fails)()
        next(stream)
        with pytest.raises(ValueError, match="broken"):
            next(stream)
        assert [] == list(stream)

    def test_an_async_one_does_not_serve(self):
        """
        A step that gives an async stream can't serve a sync one.
        """

        async def other():
            yield "a"

        with pytest.raises(ConnectionError):
            next(guard(self.fallback(lambda: other()), self.fails)())

    def test_one_without_chunks(self):
        """
        A stream without chunks serves as one.
        """
        assert [] == list(guard(self.fallback(lambda: iter(())), self.fails)())

    def test_another_model(self):
        """
        Another model's stream serves behind its own stack.
        """
        stack = Stack(
            "writer.write",
            TargetPolicy(fallback=(FallbackStep(FallbackStrategy.MODEL, value="small"),), deadline=60.0),
            clock=VirtualClock(1000.0),
        )
        stream = guard(stack, self.fails, alternative=lambda kind, name: lambda: iter([kind, name]))()

        assert ["model", "small"] == list(stream)


class TestEndedFromOutside:
    def test_is_left_not_broken(self):
        """
        A stream whose clock was ended fails of that, if of anything: it counts as one that was closed.
        """
        events, clock = [], VirtualClock(1000.0)
        stack = make_stack(events.append, clock, circuit_breaker=CircuitBreakerConfig(failure_threshold=1))
        ending = EndableClock(clock)

        def write():
            yield 1
            if current_limits().deadline_passed():
                raise TimeoutError("out of time", error_code=ErrorCode.ERR_TIMEOUT_DEADLINE)

        stream = guard(stack, write, cooperative=True)()
        token = publish(dataclasses.replace(current_limits(), clock=ending))
        try:
            read = [next(stream)]
            ending.end()
            with pytest.raises(TimeoutError, match="out of time"):
                next(stream)
        finally:
            reset_published(token)

        assert [1] == read
        assert [StreamAbandoned("writer.write", "closed", 1, 0.0)] == events
        assert (0, 0) == (stack.breaker.failures, stack.stats().failed)
