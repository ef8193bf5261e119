import asyncio
import builtins
import gc
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from pixel_llm.errors import (
    APIError,
    CircuitBreakerOpen,
    ConnectionError,
    ErrorCode,
    PixelLMError,
    TimeoutError,
    ValidationError,
)
from pixel_llm.events import (
    AttemptFailed,
    CallFailed,
    CallRecovered,
    CallRefused,
    CircuitStateChanged,
    RetryScheduled,
)
from pixel_llm.policy import (
    CacheConfig,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    Jitter,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
)
from pixel_llm.policy.sections.matching import ErrorMatcher
from pixel_llm.resilience import CircuitState, Layer, Stack, current_limits, guard
from pixel_llm.resilience.limits import reset_published, set_published

REFUSED, LOST = ErrorCode.ERR_CONN_REFUSED, ErrorCode.ERR_CONN_LOST


def steady(attempts=3, wait=1.0, **more):
    """Retries with waits that are known beforehand."""
    return RetryConfig(
        strategy=RetryStrategy.FIXED_DELAY, max_attempts=attempts, initial_delay=wait, jitter=Jitter.NONE, **more
    )


def breaker(failures=3, **more):
    return CircuitBreakerConfig(failure_threshold=failures, **more)


def raise_gone():
    raise gone()


def gone(text="gone"):
    return ConnectionError(text, error_code=LOST)


#: The errors of a server that has too much to do.
BUSY = ErrorMatcher.of("THROTTLED")


class TestDescribe:
    def test_names_the_layers_outermost_first(self, make_stack):
        """
        The order is fixed, whatever order the policy has them in.
        """
        stack = make_stack(
            timeout=TimeoutConfig(attempt=30.0),
            circuit_breaker=breaker(),
            retry=steady(),
            fallback=(FallbackStep(FallbackStrategy.RAISE),),
            deadline=120.0,
        )

        assert ["deadline", "fallback", "retry", "circuit_breaker", "timeout", "call"] == [
            layer.name for layer in stack.describe()
        ]

    def test_shows_what_is_there(self, make_stack):
        """
        A layer shows its settings, durations in seconds; one that is not there is not shown.
        """
        stack = make_stack(
            deadline=120.0,
            fallback=(
                FallbackStep(FallbackStrategy.CACHE, cache=CacheConfig(ttl=60.0, max_entries=5)),
                FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="sorry"),
                FallbackStep(FallbackStrategy.TARGET, value="shop.till", reserve=5.0, when=BUSY),
                FallbackStep(FallbackStrategy.NONE),
            ),
        )
        steps = [
            {"strategy": "cache", "ttl": 60.0, "max_entries": 5, "max_bytes": 64 * 1024 * 1024},
            {"strategy": "default_value", "value": "sorry"},
            {"strategy": "target", "target": "shop.till", "reserve": 5.0, "when": ["THROTTLED"]},
            {"strategy": "none"},
        ]

        assert (
            Layer("deadline", {"deadline": 120.0}),
            Layer("fallback", {"steps": steps}),
            Layer("call", {}),
        ) == stack.describe()

    def test_one_attempt_is_no_retry(self, make_stack):
        """
        With ``max_attempts: 1`` there is no layer that retries.
        """

        assert (Layer("call", {}),) == make_stack(retry=steady(attempts=1)).describe()


class TestSuccess:
    def test_gives_the_value(self, both_worlds, events):
        """
        A call that succeeds gives its value, waits for nothing and reports nothing.
        """
        call = both_worlds(
            "paid", deadline=60.0, retry=steady(), circuit_breaker=breaker(), timeout=TimeoutConfig(attempt=9.0)
        )

        assert "paid" == call(1, 2)
        assert [(1, 2)] == call.script.arguments
        assert [] == events

    def test_outcome_tells_how_it_came_about(self, both_worlds, clock):
        """
        A clean success was served by the call, at the first attempt.
        """
        outcome = both_worlds(lambda: clock.advance(2.5) or "paid", retry=steady()).outcome()

        assert ("paid", "call", False, 1, None, ()) == (
            outcome.value,
            outcome.served_by,
            outcome.degraded,
            outcome.attempts,
            outcome.error,
            outcome.skipped,
        )
        assert 2.5 == pytest.approx(outcome.elapsed)

    def test_does_not_enter_tenacity(self, both_worlds, monkeypatch):
        """
        The first attempt runs outside of tenacity, which is entered only when something went wrong.
        """
        call = both_worlds("paid", retry=steady())
        monkeypatch.setattr(type(call.stack.retry), "begin", None)

        assert "paid" == call()

    def test_without_layers_passes_through(self, both_worlds):
        """
        A target without a section calls and raises as if there were no stack.
        """
        error = ValueError("no")

        assert "paid" == both_worlds("paid")()
        with pytest.raises(ValueError) as caught:
            both_worlds(error)()
        assert error is caught.value


class TestRetries:
    def test_recover(self, both_worlds, clock, events):
        """
        A call that succeeds after failures gives its value, and tells how it came about.
        """
        outcome = both_worlds(gone(), gone(), "paid", retry=steady(wait=2.0)).outcome()

        assert ("paid", "call", False, 3, None) == (
            outcome.value,
            outcome.served_by,
            outcome.degraded,
            outcome.attempts,
            outcome.error,
        )
        assert [2.0, 2.0] == clock.sleeps
        assert 4.0 == pytest.approx(outcome.elapsed)
        assert [
            AttemptFailed("shop.pay", 1, LOST, "gone", 0.0),
            RetryScheduled("shop.pay", 1, 2.0, LOST),
            AttemptFailed("shop.pay", 2, LOST, "gone", 0.0),
            RetryScheduled("shop.pay", 2, 2.0, LOST),
        ] == events[:-1]
        assert isinstance(events[-1], CallRecovered)
        assert 3 == events[-1].attempts

    def test_pass_the_arguments_again(self, both_worlds):
        """
        Every attempt gets the same arguments.
        """
        call = both_worlds(gone(), "paid", retry=steady())
        call("card", 12)

        assert [("card", 12), ("card", 12)] == call.script.arguments

    def test_raise_the_last_error_itself(self, both_worlds, clock):
        """
        When attempts are used up the last error is raised, the very object, and says what the call went through.
        """
        errors = [gone("first"), APIError("second"), gone("third")]
        call = both_worlds(*errors, retry=steady(wait=1.5))
        with pytest.raises(ConnectionError) as caught:
            call()
        error = caught.value

        assert errors[-1] is error
        assert error.__cause__ is None
        assert ("shop.pay", 3, 3) == (error.target, error.attempt, error.attempts)
        assert [
            (1, "first", LOST, 0.0, 1.5),
            (2, "second", ErrorCode.ERR_API_SERVER_ERROR, 0.0, 1.5),
            (3, "third", LOST, 0.0, 0.0),
        ] == [
            (record.number, record.error, record.error_code, record.elapsed, record.waited) for record in error.history
        ]
        assert ["shop.pay: gave up after 3 attempts in 3.0 s: all attempts are used up"] == error.__notes__

    def test_of_one_attempt_leave_no_note(self, both_worlds):
        """
        An error that was not retried says so by its attempts; a note would be noise.
        """
        error = APIError("no", error_code=ErrorCode.ERR_API_UNAUTHORIZED)
        with pytest.raises(APIError):
            both_worlds(error, retry=steady())()

        assert (1, 1) == (error.attempts, len(error.history))
        assert not hasattr(error, "__notes__")

    def test_reason_of_a_target_that_does_not_retry(self, both_worlds, events):
        """
        The report of a failed call says why it was not tried again.
        """
        with pytest.raises(ConnectionError):
            both_worlds(gone())()

        assert CallFailed("shop.pay", 1, LOST, "gone", 0.0, "the target does not retry") == events[-1]

    def test_a_plain_handler_for_timeouts_works(self, both_worlds):
        """
        ``except TimeoutError`` by someone who never imported ours catches the last error.
        """
        with pytest.raises(builtins.TimeoutError):
            both_worlds(TimeoutError("slow"), retry=steady())()

    def test_of_somebody_else_s_error(self, both_worlds):
        """
        An exception of another library is raised itself too, with attempts, history and note.
        """
        error = ConnectionResetError("reset by peer")
        with pytest.raises(ConnectionResetError) as caught:
            both_worlds(error, retry=steady(attempts=2))()

        assert error is caught.value
        assert 2 == error.attempts
        assert "ConnectionResetError: reset by peer" == error.history[0].error
        assert 1 == len(error.__notes__)

    def test_an_error_that_refuses_attributes_is_raised_all_the_same(self, both_worlds):
        """
        A frozen exception takes neither attributes nor notes; it is still the one that is raised.
        """

        class Frozen(ConnectionResetError):
            def __setattr__(self, name, value):
                raise RuntimeError("frozen")

        error = Frozen("reset")
        with pytest.raises(Frozen) as caught:
            both_worlds(error, retry=steady())()

        assert error is caught.value
        assert not hasattr(error, "attempts")

    def test_an_error_whose_attributes_fail_is_served_for_all_the_same(self, both_worlds):
        """
        Whatever looking at somebody else's exception raises, it does not take the exception's place.
        """

        class Odd(Exception):
            def __getattr__(self, name):
                raise KeyError(name)

        sorry = (FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="sorry"),)

        assert "sorry" == both_worlds(Odd(), fallback=sorry)()
        with pytest.raises(Odd):
            both_worlds(Odd())()

    def test_an_error_with_slots_is_raised_all_the_same(self, both_worlds):
        """
        Nor does a read-only attribute of the same name get in the way.
        """

        class Slotted(ConnectionResetError):
            __slots__ = ()
            attempts = property(lambda self: None)

        error = Slotted("reset")
        with pytest.raises(Slotted) as caught:
            both_worlds(error, retry=steady())()

        assert error is caught.value

    def test_an_error_without_a_text_is_raised_all_the_same(self, both_worlds, events):
        """
        An exception whose __str__ fails is raised and reported like any other.
        """

        class Mute(ConnectionResetError):
            def __str__(self):
                raise KeyError("no text")

        error = Mute()
        with pytest.raises(Mute) as caught:
            both_worlds(error, retry=steady())()

        assert error is caught.value
        assert "Mute: <its text failed>" == events[0].error

    def test_long_texts_are_cut(self, both_worlds):
        """
        Reports keep the first 500 characters of an error's text.
        """
        error = gone("x" * 5000)
        with pytest.raises(ConnectionError):
            both_worlds(error)()

        assert "x" * 499 + "…" == error.history[0].error

    def test_what_is_not_idempotent_is_not_tried_again(self, both_worlds, events):
        """
        With ``idempotent: false`` a connection that broke midway is not retried, one that was refused is.
        """
        once = both_worlds(gone(), retry=steady(), idempotent=False)
        with pytest.raises(ConnectionError):
            once()
        twice = both_worlds(ConnectionRefusedError(), "paid", retry=steady(), idempotent=False)

        assert 1 == once.calls
        assert "the target is not idempotent and something may have been sent" == events[-1].reason
        assert "paid" == twice()

    def test_retry_after_is_carried_by_the_error(self, both_worlds, clock):
        """
        A server that asks for too long a wait fails the call now, and the caller learns how long.
        """
        error = APIError("slow down", error_code=ErrorCode.ERR_API_RATE_LIMIT, retry_after=300.0)
        call = both_worlds(error, retry=steady())
        with pytest.raises(APIError) as caught:
            call()

        assert 300.0 == caught.value.retry_after
        assert (1, []) == (call.calls, clock.sleeps)

    def test_retry_after_of_somebody_else_s_answer_is_carried_too(self, both_worlds):
        """
        What the answer said is put where callers look for it, unless the exception says something there itself.
        """
        response = httpx.Response(503, headers={"Retry-After": "30"}, request=httpx.Request("GET", "http://x"))
        error = httpx.HTTPStatusError("busy", request=response.request, response=response)
        call = both_worlds(error, retry=steady(attempts=1))

        with pytest.raises(httpx.HTTPStatusError) as caught:
            call()

        assert 30.0 == caught.value.retry_after

        error.retry_after = 7
        with pytest.raises(httpx.HTTPStatusError) as caught:
            call()

        assert 7 == caught.value.retry_after


class TestDeadline:
    def test_a_wait_that_would_outlive_it_fails_now(self, both_worlds, clock, events):
        """
        When the next wait would not end in time the call fails at once with its last error, unwaited.
        """
        errors = [gone("first"), gone("second"), gone("third")]
        call = both_worlds(*errors, deadline=10.0, retry=steady(attempts=9, wait=6.0))
        with pytest.raises(ConnectionError) as caught:
            call()

        assert errors[1] is caught.value
        assert (2, [6.0]) == (call.calls, clock.sleeps)
        assert "the next wait, 6.0 s, would outlive the deadline" == events[-1].reason

    def test_no_call_goes_past_it(self, both_worlds, clock):
        """
        However many attempts the policy allows, the last one begins before the deadline.
        """
        started = clock.monotonic()
        begun = []

        def attempt():
            begun.append(clock.monotonic() - started)
            clock.advance(1.0)
            raise gone()

        with pytest.raises(ConnectionError):
            both_worlds(attempt, deadline=10.0, retry=steady(attempts=100, wait=0.7))()

        assert 6 == len(begun)
        assert max(begun) < 10.0

    def test_that_has_passed_on_entry_calls_nothing(self, both_worlds, make_stack, clock, events, world):
        """
        A target whose caller has no time left is not called; that is no attempt, and no failure of the target.
        """
        inner = both_worlds("paid", circuit_breaker=breaker(1), retry=steady())
        outer = guard(
            make_stack("shop.order", deadline=5.0), world.calling(inner.guarded, before=lambda: clock.advance(5.0))
        )
        with pytest.raises(TimeoutError) as caught:
            world.run(outer)
        error = caught.value

        assert (0, CircuitState.CLOSED) == (inner.calls, inner.stack.breaker.state)
        assert (ErrorCode.ERR_TIMEOUT_DEADLINE, "shop.pay: the caller's deadline has passed") == (
            error.error_code,
            str(error),
        )
        assert (0, ()) == (error.attempts, error.history)
        assert CallRefused("shop.pay", "deadline", ErrorCode.ERR_TIMEOUT_DEADLINE, None) == events[0]
        assert "the deadline has passed" == events[1].reason

    def test_that_passes_while_waiting_is_no_attempt(self, both_worlds, clock, monkeypatch):
        """
        When a wait took longer than it should and the deadline has passed, no attempt is counted for it.
        """
        call = both_worlds(gone(), "paid", deadline=10.0, retry=steady(wait=9.0))
        advance = clock.advance
        monkeypatch.setattr(clock, "advance", lambda seconds: advance(seconds + 2.0))
        with pytest.raises(TimeoutError) as caught:
            call()

        assert (1, 1) == (call.calls, caught.value.attempts)
        assert "shop.pay: the deadline of 10 s has passed" == str(caught.value)
        assert ["gone"] == [record.error for record in caught.value.history]

    def test_nested_targets_inherit_what_is_left(self, both_worlds, make_stack, clock, world):
        """
        An inner target with more time of its own has only what its caller has left.
        """
        left = []
        inner = both_worlds(lambda: left.append(current_limits().remaining()), deadline=60.0)
        for seconds in (0.0, 4.0):
            outer = world.calling(inner.guarded, before=lambda seconds=seconds: clock.advance(seconds))
            world.run(guard(make_stack("shop.order", deadline=10.0), outer))

        assert [10.0, 6.0] == pytest.approx(left)

    def test_nested_targets_keep_their_own_if_it_is_less(self, both_worlds, make_stack, world):
        """
        A caller with more time does not lengthen the deadline of what it calls.
        """
        left = []
        inner = both_worlds(lambda: left.append(current_limits().remaining()), deadline=3.0)
        world.run(guard(make_stack("shop.order", deadline=10.0), world.calling(inner.guarded)))

        assert [3.0] == pytest.approx(left)

    def test_nested_targets_inherit_the_attempt_s_time(self, both_worlds, make_stack, world):
        """
        What an attempt of the caller has left is what the inner target has, all its retries included.
        """
        left = []
        inner = both_worlds(lambda: left.append(current_limits().remaining()), deadline=60.0)
        outer = make_stack("shop.order", deadline=100.0, timeout=TimeoutConfig(attempt=7.0))
        world.run(guard(outer, world.calling(inner.guarded), cooperative=True))

        assert [7.0] == pytest.approx(left)

    def test_nested_waits_do_not_outlive_it(self, both_worlds, make_stack, clock, world):
        """
        An inner target does not wait for longer than its caller can.
        """
        inner = both_worlds(gone(), retry=steady(attempts=9, wait=4.0))
        with pytest.raises(ConnectionError):
            world.run(guard(make_stack("shop.order", deadline=10.0), world.calling(inner.guarded)))

        assert (3, [4.0, 4.0]) == (inner.calls, clock.sleeps)

    def test_errors_keep_the_innermost_story_where_the_outer_call_has_nothing_to_add(
        self, both_worlds, make_stack, world
    ):
        """
        Attempts and history are those of the call that was tried again.
        """
        inner = both_worlds(raise_gone, retry=steady(attempts=3))
        with pytest.raises(ConnectionError) as caught:
            world.run(guard(make_stack("shop.order", deadline=60.0), world.calling(inner.guarded)))

        error = caught.value
        assert ("shop.pay", 3, 3, 3) == (error.target, error.attempt, error.attempts, len(error.history))
        assert 1 == len(error.__notes__)

    def test_nested_retries_told_only_the_inner_one_s_story(self, both_worlds, make_stack, world):
        """
        The error tells of the outer call's attempts, each with those of the inner call, and crosses a process pool.
        """
        inner = both_worlds(raise_gone, retry=steady(attempts=3))
        outer = make_stack("shop.order", retry=steady(attempts=2))
        with pytest.raises(ConnectionError) as caught:
            world.run(guard(outer, world.calling(inner.guarded)))

        assert 6 == inner.calls
        for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
            assert ("shop.pay", 2, 2) == (error.target, error.attempt, error.attempts)
            assert [(1, 3), (2, 3)] == [(record.number, len(record.inner)) for record in error.history]
            assert [1, 2, 3] == [record.number for record in error.history[1].inner]
            assert {()} == {record.inner for record in error.history[1].inner}
        inner_note, outer_note = caught.value.__notes__
        assert inner_note.startswith("shop.pay: gave up after 3 attempts")
        assert outer_note.startswith("shop.order: gave up after 2 attempts")

    def test_an_error_that_is_raised_again_and_again_does_not_grow(self, both_worlds):
        """
        What an earlier call has written into the same object is no story of a call inside.
        """
        error = gone()
        call = both_worlds(error, retry=steady(attempts=2))
        for _ in range(3):
            with pytest.raises(ConnectionError):
                call()

        assert (2, [(), ()]) == (error.attempts, [record.inner for record in error.history])

    def test_a_refusal_inside_is_told_by_the_attempts_of_the_outer_call(self, both_worlds, make_stack, world):
        """
        The inner call made no attempt; the outer one made two.
        """
        inner = both_worlds(raise_gone, circuit_breaker=breaker(1))
        outer = make_stack("shop.order", retry=steady(attempts=2, retry_on=ErrorMatcher.of("ERR_CB_OPEN", "TRANSIENT")))
        with pytest.raises(CircuitBreakerOpen) as caught:
            world.run(guard(outer, world.calling(inner.guarded)))

        error = caught.value
        assert (2, [1, 0]) == (error.attempts, [len(record.inner) for record in error.history])

    def test_an_exception_of_somebody_else_s_keeps_its_own_attempts(self, both_worlds):
        """
        Its attributes are not ours to write over.
        """

        class Theirs(OSError):
            attempts = "many"

        call = both_worlds(Theirs("gone"), retry=steady(attempts=2, retry_on=ErrorMatcher.of("UNKNOWN", "TRANSIENT")))
        with pytest.raises(Theirs) as caught:
            call()

        assert ("many", False) == (caught.value.attempts, hasattr(caught.value, "history"))


class TestWhatCounts:
    def failures_after(self, call):
        with pytest.raises(Exception):  # noqa: B017 - any of them
            call()
        return call.stack.breaker.failures

    @pytest.mark.parametrize(
        ("error", "counted"),
        [
            (gone(), 1),
            (TimeoutError("slow"), 1),
            (APIError("broken"), 1),
            (KeyError("unknown"), 1),
            (ConnectionResetError(), 1),
            (APIError("no", error_code=ErrorCode.ERR_API_UNAUTHORIZED), 0),
            (ValidationError("no"), 0),
            (ValueError("a mistake"), 0),
            (APIError("slow down", error_code=ErrorCode.ERR_API_RATE_LIMIT), 0),
            (CircuitBreakerOpen("of another target", target="other"), 0),
            (PixelLMError("busy", error_code=ErrorCode.ERR_LIMIT_BULKHEAD), 0),
        ],
        ids=lambda value: getattr(value, "error_code", None) or type(value).__name__,
    )
    def test_only_what_may_be_the_target_s_fault(self, both_worlds, error, counted):
        """
        The breaker counts TRANSIENT and UNKNOWN; wrong requests, 429 and other guards' refusals are neutral.
        """

        assert counted == self.failures_after(both_worlds(error, circuit_breaker=breaker()))

    def test_neutral_errors_do_not_forget_failures(self, both_worlds):
        """
        An error that is not counted is no success either.
        """
        call = both_worlds(gone(), ValueError("no"), gone(), circuit_breaker=breaker(2))
        for _ in range(3):
            self.failures_after(call)

        assert CircuitState.OPEN is call.stack.breaker.state

    @pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
    def test_interruptions_pass_untouched_and_uncounted(self, both_worlds, world, error, events):
        """
        Cancellation and interrupts are nobody's failure: no retry, no fallback, no event, no count.
        """
        call = both_worlds(
            error,
            retry=steady(),
            circuit_breaker=breaker(1),
            fallback=(FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="sorry"),),
        )
        if world.name == "async" and isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raised = drive(call.guarded)  # asyncio itself makes something of these
        else:
            with pytest.raises(type(error)) as caught:
                call()
            raised = caught.value

        assert type(error) is type(raised)
        assert (1, 0, CircuitState.CLOSED) == (call.calls, call.stack.breaker.failures, call.stack.breaker.state)
        assert [] == events

    @pytest.mark.parametrize(
        "error",
        [asyncio.CancelledError(), KeyboardInterrupt(), ValueError("a mistake")],
        ids=lambda error: type(error).__name__,
    )
    def test_neutral_trials_give_their_permit_back(self, both_worlds, world, clock, error):
        """
        A half-open breaker whose only trial was cancelled, or proved nothing, lets another one through.
        """
        call = both_worlds(gone(), error, "paid", circuit_breaker=breaker(1, cooldown=5.0, success_threshold=1))
        self.failures_after(call)
        clock.advance(5.05)
        if world.name == "async" and isinstance(error, KeyboardInterrupt):
            drive(call.guarded)
        else:
            with pytest.raises(type(error)):
                call()

        assert CircuitState.HALF_OPEN is call.stack.breaker.state
        assert "paid" == call()
        assert CircuitState.CLOSED is call.stack.breaker.state


def drive(guarded):
    """Run a coroutine by hand and give what it raised."""
    coroutine = guarded()
    try:
        while True:
            coroutine.send(None)
    except BaseException as error:  # noqa: BLE001 - that is what is asked
        return error


class TestAttemptCutByTheDeadline:
    """It counts only if it had its full timeout, or its target's own time from the first attempt on."""

    def slow(self, clock, seconds):
        def attempt():
            clock.advance(seconds)
            raise builtins.TimeoutError("cut")

        return attempt

    def test_counts_if_it_had_its_full_timeout(self, both_worlds, clock):
        """
        A later attempt that had its whole timeout says something of the target.
        """
        call = both_worlds(
            self.fails_after(clock, 5.0),
            self.slow(clock, 10.0),
            deadline=15.0,
            timeout=TimeoutConfig(attempt=10.0),
            retry=steady(wait=0.0),
            circuit_breaker=breaker(9),
        )
        with pytest.raises(builtins.TimeoutError):
            call()

        assert 2 == call.stack.breaker.failures

    def test_counts_if_it_had_its_target_s_own_time(self, both_worlds, clock):
        """
        A first attempt that used up the whole deadline of its own target says something of it.
        """
        call = both_worlds(
            self.slow(clock, 0.3), deadline=0.3, timeout=TimeoutConfig(attempt=30.0), circuit_breaker=breaker(9)
        )
        with pytest.raises(builtins.TimeoutError):
            call()

        assert 1 == call.stack.breaker.failures

    def test_is_neutral_if_earlier_attempts_took_the_time(self, both_worlds, clock):
        """
        A later attempt that was cut before its timeout says nothing: it had too little time.
        """
        call = both_worlds(
            self.fails_after(clock, 4.0),
            self.slow(clock, 6.0),
            deadline=10.0,
            timeout=TimeoutConfig(attempt=30.0),
            retry=steady(wait=0.0),
            circuit_breaker=breaker(9),
        )
        with pytest.raises(builtins.TimeoutError):
            call()

        assert (2, 1) == (call.calls, call.stack.breaker.failures)

    @pytest.mark.parametrize("own", [None, 60.0])
    def test_is_neutral_if_the_caller_had_the_deadline(self, both_worlds, make_stack, clock, world, own):
        """
        A first attempt that was cut because its caller was late says nothing of the target.
        """
        inner = both_worlds(self.slow(clock, 10.0), deadline=own, circuit_breaker=breaker(9))
        with pytest.raises(builtins.TimeoutError):
            world.run(guard(make_stack("shop.order", deadline=10.0), world.calling(inner.guarded)))

        assert 0 == inner.stack.breaker.failures

    def test_counts_any_other_error(self, both_worlds, clock):
        """
        An error that is no timeout is the target's, even when it comes too late.
        """
        call = both_worlds(self.fails_after(clock, 11.0), deadline=10.0, circuit_breaker=breaker(9))
        with pytest.raises(ConnectionError):
            call()

        assert 1 == call.stack.breaker.failures

    def fails_after(self, clock, seconds):
        def attempt():
            clock.advance(seconds)
            raise gone()

        return attempt


class TestOpenBreaker:
    def test_runs_nothing(self, both_worlds, clock, events):
        """
        An open breaker refuses at once: nothing is called, and no wait is made.
        """
        call = both_worlds(gone(), retry=steady(attempts=1), circuit_breaker=breaker(1, cooldown=30.0))
        with pytest.raises(ConnectionError):
            call()
        del events[:]
        with pytest.raises(CircuitBreakerOpen) as caught:
            call()

        assert (1, []) == (call.calls, clock.sleeps)
        assert (0, ()) == (caught.value.attempts, caught.value.history)
        assert 30.0 == pytest.approx(caught.value.retry_after)
        assert CallRefused("shop.pay", "circuit_breaker", ErrorCode.ERR_CB_OPEN, caught.value.retry_after) == events[0]
        assert (0, "the circuit breaker refused") == (events[1].attempts, events[1].reason)
        assert str(caught.value) == f"shop.pay: {events[1].error}"

    def test_ends_the_retries(self, both_worlds, clock, events):
        """
        A breaker that opens midway ends the call without another wait, with the error that opened it.
        """
        errors = [gone("first"), gone("second"), gone("third")]
        call = both_worlds(*errors, retry=steady(attempts=9), circuit_breaker=breaker(2))
        with pytest.raises(ConnectionError) as caught:
            call()

        assert errors[1] is caught.value
        assert (2, [1.0]) == (call.calls, clock.sleeps)
        assert ["shop.pay: gave up after 2 attempts in 1.0 s: the circuit breaker has opened"] == errors[1].__notes__
        assert CircuitStateChanged("shop.pay", "closed", "open", 2, LOST) in events

    def test_opened_by_others_during_a_wait_refuses(self, both_worlds, clock):
        """
        A call whose breaker was opened by others while it waited makes no further attempt.
        """
        call = both_worlds(gone(), retry=steady(attempts=9), circuit_breaker=breaker(2))
        sleep = clock.sleep

        def open_meanwhile(seconds):
            sleep(seconds)
            call.stack.breaker.record_failure(None, gone())

        clock.sleep = open_meanwhile
        with pytest.raises(CircuitBreakerOpen) as caught:
            call()

        assert (1, 1) == (call.calls, caught.value.attempts)
        assert ["gone"] == [record.error for record in caught.value.history]

    def test_half_open_lets_a_trial_through(self, both_worlds, clock):
        """
        After the cooldown calls become trials, and enough of them close the breaker.
        """
        call = both_worlds(gone(), "paid", circuit_breaker=breaker(1, cooldown=30.0, success_threshold=2))
        with pytest.raises(ConnectionError):
            call()
        clock.advance(30.05)

        assert ["paid", "paid"] == [call(), call()]
        assert CircuitState.CLOSED is call.stack.breaker.state

    def test_of_an_inner_target_is_an_error_like_any_other(self, both_worlds, make_stack, world):
        """
        An inner target's refusal was an attempt of the outer one, which does not retry it.
        """
        refusal = CircuitBreakerOpen("no", target="shop.stock")
        call = both_worlds(refusal, retry=steady(), circuit_breaker=breaker())
        with pytest.raises(CircuitBreakerOpen):
            call()

        assert (1, 1) == (call.calls, refusal.attempts)

    def test_of_the_same_target_further_in_is_an_attempt(self, both_worlds, world, make_stack, events):
        """
        A callable that ran and met its own target's open breaker further in has been called.
        """
        stack = make_stack(circuit_breaker=breaker(1))
        inner = both_worlds("paid", stack=stack)

        def open_it():
            stack.breaker.record_failure(None, gone())

        with pytest.raises(CircuitBreakerOpen):
            world.run(guard(stack, world.calling(inner.guarded, before=open_it)))

        assert 0 == inner.calls
        assert [0, 1] == [event.attempts for event in events if isinstance(event, CallFailed)]

    def test_is_shared_by_all_that_is_wrapped_for_it(self, both_worlds, make_stack):
        """
        Failures of one callable keep others of the same target from being called.
        """
        stack = make_stack(circuit_breaker=breaker(1))
        with pytest.raises(ConnectionError):
            both_worlds(gone(), stack=stack)()
        other = both_worlds("paid", stack=stack)
        with pytest.raises(CircuitBreakerOpen):
            other()

        assert 0 == other.calls


class TestReferences:
    """An error holds frames, and those hold pictures: none may outlive the call by a cycle."""

    @pytest.mark.parametrize(
        "layers",
        [
            {},
            {"retry": steady(attempts=3, wait=0.0)},
            {"retry": steady(attempts=3, wait=0.0), "deadline": 60.0, "circuit_breaker": breaker(1)},
            {"timeout": TimeoutConfig(attempt=30.0)},
            {"fallback": (FallbackStep(FallbackStrategy.RAISE),)},
        ],
        ids=lambda layers: "+".join(layers) or "nothing",
    )
    def test_no_cycle_keeps_the_error_alive(self, world, make_stack, layers):
        """
        Without the garbage collector, an error is gone when its handler is left.
        """

        def fail():
            raise gone()

        guarded = guard(make_stack(**layers), world.function(fail))
        gc.disable()
        try:
            died = world.error_dies(guarded)
        finally:
            gc.enable()

        assert died

    def test_the_traceback_shows_no_machinery(self, both_worlds):
        """
        An error's traceback leads to the callable; tenacity and pybreaker have left nothing in it.
        """
        with pytest.raises(ConnectionError) as caught:
            both_worlds(gone(), retry=steady(), circuit_breaker=breaker(1))()
        files = {str(entry.path) for entry in caught.traceback}

        assert not [file for file in files if "tenacity" in file or "pybreaker" in file or "concurrent" in file]


class TestNoLock:
    def test_32_threads_are_inside_at_once(self, make_stack):
        """
        No lock is held while a callable runs: 32 of them meet at one barrier.
        """
        barrier = threading.Barrier(32)
        stack = make_stack(
            deadline=60.0, retry=steady(), circuit_breaker=breaker(), timeout=TimeoutConfig(attempt=30.0)
        )
        guarded = guard(stack, lambda: barrier.wait(10), cooperative=True)
        with ThreadPoolExecutor(32) as pool:
            places = list(pool.map(lambda _: guarded(), range(32)))

        assert set(range(32)) == set(places)

    def test_32_trials_are_inside_at_once(self, make_stack, clock):
        """
        Nor while the breaker is half open, if it allows as many trials.
        """
        barrier = threading.Barrier(32)
        stack = make_stack(circuit_breaker=breaker(1, cooldown=1.0, half_open_max_calls=32, success_threshold=32))
        stack.breaker.record_failure(stack.breaker.acquire())
        clock.advance(1.05)
        guarded = guard(stack, lambda: barrier.wait(10))
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(lambda _: guarded(), range(32)))

        assert CircuitState.CLOSED is stack.breaker.state

    def test_1000_tasks_are_inside_at_once(self, make_stack):
        """
        The same for a thousand tasks of one loop.
        """
        stack = make_stack(
            deadline=60.0, retry=steady(), circuit_breaker=breaker(), timeout=TimeoutConfig(attempt=30.0)
        )
        inside = 0

        async def main():
            everyone = asyncio.Event()

            async def meet():
                nonlocal inside
                inside += 1
                if inside == 1000:
                    everyone.set()
                await everyone.wait()

            guarded = guard(stack, meet)
            await asyncio.gather(*(guarded() for _ in range(1000)))

        asyncio.run(main())

        assert 1000 == inside

    def test_threads_that_retry_do_not_mix(self, make_stack, scripted):
        """
        16 threads that fail and recover through one stack each get their own result and history.
        """
        stack = make_stack(retry=steady(attempts=5, wait=0.0))
        local = threading.local()

        def work(number):
            local.left = getattr(local, "left", 3) - 1
            if local.left >= 0:
                raise gone(str(number))
            del local.left
            return number

        guarded = guard(stack, work)
        with ThreadPoolExecutor(16) as pool:
            outcomes = list(pool.map(guarded.outcome, range(160)))

        assert list(range(160)) == [outcome.value for outcome in outcomes]
        assert {4} == {outcome.attempts for outcome in outcomes}

    def test_tasks_that_retry_do_not_mix(self, make_stack):
        """
        Nor do tasks of one loop whose waits interleave.
        """
        stack = make_stack(retry=steady(attempts=4))

        def work():
            left = 3

            async def attempt(number):
                nonlocal left
                await asyncio.sleep(0)
                left -= 1
                if left >= 0:
                    raise gone(str(number))
                return number

            return guard(stack, attempt)

        async def main():
            return await asyncio.gather(*(work().outcome(number) for number in range(100)))

        outcomes = asyncio.run(main())

        assert list(range(100)) == [outcome.value for outcome in outcomes]
        assert {4} == {outcome.attempts for outcome in outcomes}


class TestAsync:
    def test_a_timeout_cancels_the_callable(self, events):
        """
        An attempt that takes too long is cancelled, sees it, and leaves no task behind.
        """
        stack = Stack("shop.pay", TargetPolicy(timeout=TimeoutConfig(attempt=0.02)))
        seen = []

        async def hang():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        async def main():
            with pytest.raises(TimeoutError) as caught:
                await guard(stack, hang)()
            return caught.value, asyncio.all_tasks() - {asyncio.current_task()}

        error, tasks = asyncio.run(main())

        assert ["cancelled"] == seen
        assert set() == tasks
        assert ErrorCode.ERR_TIMEOUT_REQUEST is error.error_code
        assert "shop.pay: the attempt took longer than its timeout of 0.02 s" == str(error)

    @pytest.mark.parametrize(
        ("layers", "text"),
        [
            ({"deadline": 0.02}, "the deadline of 0.02 s has passed"),
            ({"deadline": 0.02, "timeout": TimeoutConfig(attempt=5.0)}, "the deadline of 0.02 s has passed"),
        ],
    )
    def test_a_deadline_cancels_the_callable(self, layers, text):
        """
        A deadline needs no timeout to end an async call.
        """
        stack = Stack("shop.pay", TargetPolicy(**layers, retry=steady(), circuit_breaker=breaker()))

        async def hang():
            await asyncio.Event().wait()

        started = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            asyncio.run(guard(stack, hang)())

        assert time.monotonic() - started < 2
        assert f"shop.pay: {text}" == str(caught.value)
        assert ErrorCode.ERR_TIMEOUT_DEADLINE is caught.value.error_code
        assert (1, 1) == (caught.value.attempts, stack.breaker.failures)

    def test_the_caller_s_deadline_is_called_the_caller_s(self):
        """
        An inner target that had more time of its own does not claim its own deadline has passed.
        """
        inner_stack = Stack("shop.pay", TargetPolicy(deadline=60.0, circuit_breaker=breaker()))
        outer_stack = Stack("shop.order", TargetPolicy(deadline=5.0))
        token = set_published(outer_stack.timing.limits_of(outer_stack.begin((), {}, None, 0.0)))
        try:
            inner = inner_stack.timing.limits_of(inner_stack.begin((), {}, None, 0.0))
        finally:
            reset_published(token)

        assert "shop.pay: the caller's deadline has passed" == str(inner_stack.timing.cut(inner))

    def test_a_timeout_of_the_callable_s_own_is_passed_on(self, make_stack):
        """
        A TimeoutError that the callable raised by itself is not taken for the stack's.
        """
        error = builtins.TimeoutError("mine")

        async def fail():
            raise error

        with pytest.raises(builtins.TimeoutError) as caught:
            asyncio.run(guard(make_stack(timeout=TimeoutConfig(attempt=30.0)), fail)())

        assert error is caught.value

    def test_an_error_of_the_cleanup_s_own_is_passed_on(self):
        """
        What the callable raises while it is being cancelled is its own error, not the stack's.
        """
        stack = Stack("shop.pay", TargetPolicy(timeout=TimeoutConfig(attempt=0.02)))
        error = TimeoutError("the cleanup took too long")

        async def hang():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise error from None

        with pytest.raises(TimeoutError) as caught:
            asyncio.run(guard(stack, hang)())

        assert error is caught.value

    def test_cancelling_the_task_ends_a_wait(self):
        """
        A task that is cancelled while the stack waits ends with CancelledError, at once.
        """
        stack = Stack("shop.pay", TargetPolicy(retry=steady(wait=60.0), circuit_breaker=breaker()))
        failed = []

        async def main():
            waiting = asyncio.Event()

            async def fail():
                failed.append(1)
                waiting.set()
                raise gone()

            task = asyncio.create_task(guard(stack, fail)())
            await waiting.wait()
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())

        assert [1] == failed

    def test_cancelling_the_task_within_its_timeout_is_no_timeout(self, make_stack):
        """
        Cancellation from outside stays cancellation, though a timeout was set, and is not counted.
        """
        stack = make_stack(timeout=TimeoutConfig(attempt=30.0), retry=steady(), circuit_breaker=breaker(1))

        async def main():
            async def hang():
                await asyncio.Event().wait()

            task = asyncio.create_task(guard(stack, hang)())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())

        assert CircuitState.CLOSED is stack.breaker.state

    def test_works_across_event_loops(self, make_stack, scripted):
        """
        A stack belongs to no event loop: one after another may use it, and two at once in two threads.
        """
        stack = make_stack(
            deadline=60.0,
            retry=steady(),
            circuit_breaker=breaker(99),
            timeout=TimeoutConfig(attempt=30.0),
        )
        script = scripted(gone(), "paid", gone(), "paid", gone(), "paid", gone(), "paid")
        lock = threading.Lock()

        async def pay():
            await asyncio.sleep(0)
            with lock:
                return script()

        guarded = guard(stack, pay)

        assert ["paid", "paid"] == [asyncio.run(guarded()), asyncio.run(guarded())]

        with ThreadPoolExecutor(2) as pool:
            assert ["paid", "paid"] == list(pool.map(lambda _: asyncio.run(guarded()), range(2)))
