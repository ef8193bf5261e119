import contextlib
import contextvars
import gc
import threading
import time
import weakref

import pytest

from pixel_llm.errors import ConnectionError, ErrorCode, LimitExceeded, TimeoutError
from pixel_llm.events import AbandonedThreadEnded, CallRefused, ThreadAbandoned
from pixel_llm.policy import (
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
)
from pixel_llm.resilience import CircuitState, Stack, current_limits, guard
from pixel_llm.resilience.limits import reset_published, set_published
from pixel_llm.resilience.threads.job import WaitingJob
from pixel_llm.resilience.threads.worker import InWorker
from pixel_llm.testing import VirtualClock


@pytest.fixture
def release():
    """Lets go, at the end of the case, whatever a worker still waits for."""
    event = threading.Event()
    yield event
    event.set()


def until(predicate):
    """Wait, without sleeping, until *predicate* holds."""
    event = threading.Event()
    return any(predicate() or event.wait(0.005) for _ in range(2000))


@pytest.fixture
def timed(make_stack):
    def timed(function, seconds=30.0, **layers):
        return guard(make_stack(timeout=TimeoutConfig(attempt=seconds), **layers), function)

    return timed


class TestWorker:
    def test_ends_in_time(self, timed, clock, release):
        """
        When the timeout is over the caller gets its error, though the function runs on.
        """
        ended = threading.Event()

        def hang():
            clock.advance(30)
            release.wait(10)
            ended.set()
            return "too late"

        with pytest.raises(TimeoutError) as caught:
            timed(hang)()

        assert not ended.is_set()
        assert ErrorCode.ERR_TIMEOUT_REQUEST is caught.value.error_code
        assert "shop.pay: the attempt took longer than its timeout of 30 s" == str(caught.value)

        release.set()

        assert ended.wait(10)

    def test_ends_in_time_by_the_real_clock(self, release):
        """
        The same with time that really passes.
        """
        stack = Stack("shop.pay", TargetPolicy(timeout=TimeoutConfig(attempt=0.05)))
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            guard(stack, lambda: release.wait(10))()

        assert 0.05 <= time.monotonic() - started < 5

    def test_ends_at_the_deadline(self, timed, clock, release):
        """
        A deadline that comes before the timeout ends the attempt, and is the one that is named.
        """

        def hang():
            clock.advance(12)
            release.wait(10)

        with pytest.raises(TimeoutError) as caught:
            timed(hang, deadline=12.0)()

        assert ErrorCode.ERR_TIMEOUT_DEADLINE is caught.value.error_code
        assert "shop.pay: the deadline of 12 s has passed" == str(caught.value)

    def test_counts_as_a_failure(self, timed, clock, release):
        """
        An attempt that had its whole timeout and did not end is the target's failure.
        """

        def hang():
            clock.advance(30)
            release.wait(10)

        guarded = timed(hang, circuit_breaker=CircuitBreakerConfig(failure_threshold=1))
        for _ in range(2):
            with pytest.raises(Exception) as caught:
                guarded()

        assert ErrorCode.ERR_CB_OPEN is caught.value.error_code

    def test_gives_the_result(self, timed):
        """
        A function that ends in time gives its result.
        """

        assert 3 == timed(lambda a, b: a + b)(1, b=2)

    def test_raises_what_the_function_raised(self, timed):
        """
        Its error is raised in the caller's thread, the very object.
        """
        error = ConnectionError("gone")

        def fail():
            raise error

        with pytest.raises(ConnectionError) as caught:
            timed(fail)()

        assert error is caught.value
        assert "fail" in [entry.name for entry in caught.traceback]

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_interruptions_pass(self, timed, kind):
        """
        KeyboardInterrupt and SystemExit raised in the worker reach the caller, uncounted.
        """

        def interrupt():
            raise kind

        guarded = timed(interrupt, circuit_breaker=CircuitBreakerConfig(failure_threshold=1))
        for _ in range(3):
            with pytest.raises(kind):
                guarded()

    def test_sees_the_caller_s_context(self, timed, clock):
        """
        Context variables of the caller are visible in the worker, the call's limits among them.
        """
        request = contextvars.ContextVar("request")
        request.set("42")

        assert ("42", 30.0) == timed(lambda: (request.get(), round(current_limits().remaining(), 6)))()

    def test_does_not_keep_the_process_alive(self, timed):
        """
        The worker is a daemon thread named after its target.
        """
        thread = timed(threading.current_thread)()

        assert (True, "pixel-llm shop.pay") == (thread.daemon, thread.name)

    def test_waits_for_a_late_end_at_the_last_look(self, timed, clock):
        """
        A function that has ended when the time is up has given its result in time.
        """

        def work():
            clock.advance(29.999)
            return "just in time"

        assert "just in time" == timed(work)()

    def test_result_of_an_abandoned_call_is_dropped(self, timed, clock, release):
        """
        What the function returns or raises after its time is up reaches nobody.
        """
        ended = threading.Event()

        def hang():
            clock.advance(30)
            release.wait(10)
            try:
                raise ConnectionError("too late")
            finally:
                ended.set()

        guarded = timed(hang, circuit_breaker=CircuitBreakerConfig(failure_threshold=2))
        with pytest.raises(TimeoutError):
            guarded()
        release.set()

        assert ended.wait(10)

    def test_error_of_an_abandoned_call_is_dropped(self, timed, clock, release):
        """
        No cycle keeps alive an error that reaches nobody, nor the arguments that its frames hold.
        """
        seen, raised = [], threading.Event()

        def hang():
            clock.advance(30)
            release.wait(10)
            error = ConnectionError("too late")
            seen.extend([threading.current_thread(), weakref.ref(error)])
            raised.set()
            try:
                raise error
            finally:
                del error

        gc.disable()
        try:
            with contextlib.suppress(TimeoutError):
                timed(hang)()
            release.set()
            raised.wait(10)
            _, reference = seen

            assert until(lambda: reference() is None)
        finally:
            gc.enable()


class TestAbandonedThreads:
    @pytest.fixture
    def hanging(self, make_stack, clock, release):
        """A function that hangs at its first calls, behind a stack that lets two threads be abandoned."""

        def hanging(hangs=99, **layers):
            calls = []

            def hang():
                calls.append(1)
                if len(calls) <= hangs:
                    clock.advance(30)
                    release.wait(10)
                return "value"

            stack = make_stack(timeout=TimeoutConfig(attempt=30.0, max_abandoned_threads=2), **layers)
            return stack, guard(stack, hang), calls

        return hanging

    def test_are_limited(self, hanging, release, events):
        """
        When so many threads run on, the next call is refused at once; when one has ended, it is let in.
        """
        stack, guarded, calls = hanging(hangs=2)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                guarded()
        with pytest.raises(LimitExceeded) as caught:
            guarded()

        assert ErrorCode.ERR_LIMIT_BULKHEAD is caught.value.error_code
        assert "shop.pay: 2 threads run on after the time was up" in str(caught.value)
        assert (2, 2, 0) == (stack.abandoned_threads.count, len(calls), caught.value.attempts or 0)
        left = [event for event in events if type(event) is ThreadAbandoned]
        assert [(pytest.approx(30.0), 1), (pytest.approx(30.0), 2)] == [
            (event.elapsed, event.running) for event in left
        ]
        assert ["timeout"] == [event.layer for event in events if type(event) is CallRefused]
        assert "too many threads run on after their time" == events[-1].reason

        release.set()

        assert until(lambda: stack.abandoned_threads.count == 0)
        assert "value" == guarded()
        assert until(lambda: len([event for event in events if type(event) is AbandonedThreadEnded]) == 2)

    def test_end_the_retries(self, hanging):
        """
        A retry is refused as well, and the refusal knows what the attempts before it failed of.
        """
        retry = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=5)
        _, guarded, calls = hanging(retry=retry, idempotent=True)
        with pytest.raises(LimitExceeded) as caught:
            guarded()

        assert 2 == len(calls) == caught.value.attempts
        assert isinstance(caught.value.__cause__, TimeoutError)

    def test_refusal_is_neutral_and_has_a_fallback(self, hanging):
        """
        The breaker counts no refusal, and the fallback serves for it.
        """
        stack, guarded, _ = hanging(
            circuit_breaker=CircuitBreakerConfig(failure_threshold=3),
            fallback=(FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="sorry"),),
        )
        served = [guarded() for _ in range(6)]

        assert ["sorry"] * 6 == served
        assert (CircuitState.CLOSED, 2) == (stack.breaker.state, stack.breaker.failures)

    def test_leave_cooperative_functions_alone(self, hanging):
        """
        What needs no thread is not refused for those that run on.
        """
        stack, guarded, _ = hanging()
        for _ in range(2):
            with pytest.raises(TimeoutError):
                guarded()

        assert "value" == guard(stack, lambda: "value", cooperative=True)()

    def test_one_left_by_an_interruption(self, make_stack, release):
        """
        A thread whose caller was interrupted while it waited is abandoned, too.
        """

        class Interrupted(VirtualClock):
            def patience(self, seconds):
                raise KeyboardInterrupt

        stack = Stack("shop.pay", TargetPolicy(timeout=TimeoutConfig(attempt=30.0)), clock=Interrupted())
        with pytest.raises(KeyboardInterrupt):
            guard(stack, lambda: release.wait(10))()

        assert 1 == stack.abandoned_threads.count

    def test_ends_while_it_is_being_left(self, make_stack, clock, monkeypatch):
        """
        A function that ends at the very moment its caller would leave has given its result in time.
        """
        ended = threading.Event()
        monkeypatch.setattr(WaitingJob, "wait", lambda job, ends, clock: ended.wait(10) and False)
        stack = make_stack(timeout=TimeoutConfig(attempt=30.0))
        worker = InWorker(stack, lambda: "value")

        assert "value" == worker.run((), {}, on_end=lambda error: ended.set())
        assert 0 == stack.abandoned_threads.count

    def test_the_end_is_told_late(self, make_stack, clock, release):
        """
        Who asked to be told of the end is told when the thread ends, not when the caller leaves.
        """
        told = []
        stack = make_stack(timeout=TimeoutConfig(attempt=30.0))

        def hang():
            clock.advance(30)
            release.wait(10)

        worker = InWorker(stack, hang)
        token = set_published(stack.timing.limits_of(stack.begin((), {}, None, clock.monotonic())))
        try:
            with pytest.raises(TimeoutError):
                worker.run((), {}, on_end=told.append)
        finally:
            reset_published(token)

        assert [] == told

        release.set()

        assert until(lambda: told == [None])


class TestNoWorker:
    def test_without_a_timeout(self, make_stack):
        """
        A deadline alone makes no thread: it is checked between attempts.
        """

        assert threading.current_thread() is guard(make_stack(deadline=5.0), threading.current_thread)()

    def test_for_a_cooperative_function(self, make_stack):
        """
        A function that minds its limits by itself runs in the caller's thread.
        """
        stack = make_stack(timeout=TimeoutConfig(attempt=5.0))

        assert threading.current_thread() is guard(stack, threading.current_thread, cooperative=True)()

    def test_with_a_time_to_connect_only(self, make_stack):
        """
        ``connect`` is for sockets; by itself it makes no thread.
        """
        stack = make_stack(timeout=TimeoutConfig(connect=5.0))

        assert threading.current_thread() is guard(stack, threading.current_thread)()

    def test_a_late_result_still_counts(self, make_stack, clock):
        """
        A plain function can't be interrupted: without a timeout its late result is given all the same.
        """
        stack = make_stack(deadline=5.0, circuit_breaker=CircuitBreakerConfig(failure_threshold=1))

        assert "late" == guard(stack, lambda: clock.advance(60) or "late")()
        assert CircuitState.CLOSED is stack.breaker.state
