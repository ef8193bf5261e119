import contextlib
import contextvars
import gc
import threading
import time
import weakref

import pytest

from pixel_llm.errors import ConnectionError, ErrorCode, TimeoutError
from pixel_llm.policy import CircuitBreakerConfig, TargetPolicy, TimeoutConfig
from pixel_llm.resilience import CircuitState, Stack, current_limits, guard


@pytest.fixture
def release():
    """Lets go, at the end of the case, whatever a worker still waits for."""
    event = threading.Event()
    yield event
    event.set()


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
            thread, reference = seen
            thread.join(10)

            assert reference() is None
        finally:
            gc.enable()


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
