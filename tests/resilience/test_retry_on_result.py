from __future__ import annotations

import gc
import inspect
import pickle

import pytest

from pixel_llm.errors import ErrorCode, RetryExhausted, TimeoutError, ValidationError
from pixel_llm.events import CallFailed
from pixel_llm.policy import (
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
from pixel_llm.resilience import CircuitState, Stack, guard

TARGET = "shop.pay"
FUNCTIONS = {"looks_empty": lambda value: not value, "breaks": lambda value: value["no such key"]}


def steady(**more):
    """Two seconds between attempts, by the name of a predicate that finds empty results no good."""
    settings = {
        "strategy": RetryStrategy.FIXED_DELAY,
        "initial_delay": 2.0,
        "jitter": Jitter.NONE,
        "retry_on_result": "looks_empty",
    }
    return RetryConfig(**{**settings, **more})


@pytest.fixture
def checking(both_worlds, clock, events):
    """Puts a stack that knows FUNCTIONS around a scripted callable of the case's world."""

    def make(*steps, **layers):
        policy = TargetPolicy(**{"retry": steady(), **layers})
        stack = Stack(TARGET, policy, clock=clock, emit=events.append, find_function=FUNCTIONS.__getitem__)
        return both_worlds(*steps, stack=stack)

    return make


class TestRejectedResults:
    def test_are_tried_again(self, checking, clock):
        """
        A result that the predicate rejects is waited after and tried again, like an error.
        """
        call = checking("", None, "paid")

        assert "paid" == call()
        assert 3 == call.calls
        assert 1004.1 == pytest.approx(clock.monotonic())

    def test_may_stand_between_errors(self, checking):
        """
        Errors and rejected results count together.
        """
        call = checking(TimeoutError("slow"), "", "paid")

        assert 3 == call.outcome().attempts

    def test_end_in_retry_exhausted(self, checking, events):
        """
        When the attempts are used up, the call fails; the error has the last result and what the call went through.
        """
        call = checking(TimeoutError("slow"), 0, "")
        with pytest.raises(RetryExhausted) as raised:
            call()
        error = raised.value

        assert ErrorCode.ERR_RETRY_EXHAUSTED is error.error_code
        assert "" == error.last_result
        assert "shop.pay: the result was rejected by looks_empty" == str(error)
        assert ["shop.pay: gave up after 3 attempts in 4.0 s: all attempts are used up"] == error.__notes__
        assert (3, 3) == (error.attempts, len(error.history))
        assert {"rejected_by": "looks_empty"} == error.details
        assert ErrorCode.ERR_RETRY_EXHAUSTED is events[-1].error_code
        assert CallFailed is type(events[-1])

    def test_are_nowhere_but_in_the_error(self, checking, events):
        """
        Neither an event nor a pickle holds a rejected result.
        """
        call = checking({})
        call.script.steps = (Told("what nobody else should read"),)
        with pytest.raises(RetryExhausted) as raised:
            call()

        assert "what nobody else should read" == raised.value.last_result.text
        assert "nobody" not in f"{events} {pickle.dumps(raised.value)!r} {raised.value.history}"

    def test_errors_stay_themselves(self, checking):
        """
        Where the last attempt ends in an error, that error is raised, as ever.
        """
        call = checking("", "", TimeoutError("slow"))
        with pytest.raises(TimeoutError):
            call()

    def test_a_fallback_serves(self, checking):
        """
        A rejected result is a failure that a fallback stands in for.
        """
        call = checking("", fallback=(FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="sorry"),))
        outcome = call.outcome()

        assert ("sorry", True, 3) == (outcome.value, outcome.degraded, outcome.attempts)
        assert "" == outcome.error.last_result

    @pytest.mark.parametrize(
        ("layers", "reason"),
        [
            ({"idempotent": False}, "the target is not idempotent and something may have been sent"),
            ({"retry": steady(max_attempts=1)}, "all attempts are used up"),
        ],
    )
    def test_that_may_not_be_repeated_fail_at_once(self, checking, events, layers, reason):
        """
        Where nothing may be tried again, a rejected result is still not handed out.
        """
        call = checking("", **layers)
        with pytest.raises(RetryExhausted):
            call()

        assert 1 == call.calls
        assert reason == events[-1].reason

    def test_of_an_inner_target_are_not_retried(self, world, clock):
        """
        An inner target whose results were no good has retried already.
        """
        policy = TargetPolicy(retry=steady())
        inner, outer = (Stack(name, policy, clock=clock, find_function=FUNCTIONS.__getitem__) for name in "ab")
        calls = []
        call = guard(inner, world.function(lambda: calls.append(1)), cooperative=True)
        with pytest.raises(RetryExhausted) as raised:
            world.run(guard(outer, world.calling(call), cooperative=True))

        assert 3 == len(calls)
        assert "a" == raised.value.target

    def test_the_error_dies_with_its_handler(self, checking, world):
        """
        Nothing keeps the error, and with it the result, alive.
        """
        assert world.error_dies(checking("").guarded)


class Told:
    """A result that counts as empty."""

    def __init__(self, text):
        self.text = text

    def __call__(self):
        return self

    def __bool__(self):
        return False


class TestBreaker:
    def test_a_rejected_result_is_neutral(self, checking):
        """
        The target has answered: neither a failure nor a success.
        """
        breaker = CircuitBreakerConfig(failure_threshold=2)
        call = checking(TimeoutError("slow"), "", "", "", "paid", circuit_breaker=breaker)
        with pytest.raises(RetryExhausted):
            call()

        assert (1, CircuitState.CLOSED) == (call.stack.breaker.failures, call.stack.breaker.state)

    def test_count_may_say_otherwise(self, checking):
        """
        A policy that names the code has rejected results counted.
        """
        breaker = CircuitBreakerConfig(failure_threshold=2, count=ErrorMatcher.of("ERR_RETRY_EXHAUSTED"))
        call = checking("", circuit_breaker=breaker)
        with pytest.raises(RetryExhausted):
            call()

        assert 2 == call.calls
        assert CircuitState.OPEN is call.stack.breaker.state

    def test_a_trial_call_gives_its_permit_back(self, checking, clock):
        """
        A trial whose result is rejected proves nothing; the next call may try.
        """
        breaker = CircuitBreakerConfig(failure_threshold=1, cooldown=5.0, success_threshold=1)
        call = checking(TimeoutError("slow"), "", "paid", circuit_breaker=breaker)
        with pytest.raises(TimeoutError):
            call()
        clock.advance(5.1)

        assert "paid" == call()
        assert CircuitState.CLOSED is call.stack.breaker.state


class TestPredicate:
    def test_that_fails_is_a_mistake(self, checking):
        """
        A predicate that raises is a mistake of the program: seen at once, neither retried nor counted.
        """
        call = checking({}, retry=steady(retry_on_result="breaks"), circuit_breaker=CircuitBreakerConfig())
        with pytest.raises(ValidationError, match="retry_on_result: breaks failed: KeyError: 'no such key'") as raised:
            call()

        assert (1, 0) == (call.calls, call.stack.breaker.failures)
        assert (KeyError, "shop.pay") == (type(raised.value.__cause__), raised.value.target)

    def test_must_be_a_plain_function(self, clock, world):
        """
        An async predicate is refused when the callable is wrapped.
        """

        async def looks_empty(value):
            return not value

        stack = Stack(TARGET, TargetPolicy(retry=steady()), clock=clock, find_function={"looks_empty": looks_empty}.get)
        with pytest.raises(ValidationError, match="retry_on_result: looks_empty must be a plain function"):
            guard(stack, world.function(lambda: ""))

    def test_sees_no_code_that_is_yet_to_run(self, clock):
        """
        A plain function that returns a coroutine is refused as ever; the predicate isn't shown it.
        """

        async def later():
            return ""

        stack = Stack(TARGET, TargetPolicy(retry=steady()), clock=clock, find_function=FUNCTIONS.__getitem__)
        with pytest.raises(ValidationError, match="which would run unguarded"):
            guard(stack, lambda: later(), cooperative=True)()

    def test_keeps_the_callable_s_face(self, clock, world):
        """
        What is wrapped keeps its signature and is still there under ``__wrapped__``.
        """
        stack = Stack(TARGET, TargetPolicy(retry=steady()), clock=clock, find_function=FUNCTIONS.__getitem__)
        function = world.function(lambda: "paid")
        guarded = guard(stack, function)

        assert function is guarded.__wrapped__
        assert inspect.signature(function) == inspect.signature(guarded)

    def test_in_a_worker_thread(self, clock):
        """
        A plain function with a timeout is checked as well.
        """
        retry = steady(strategy=RetryStrategy.IMMEDIATE)
        policy = TargetPolicy(retry=retry, timeout=TimeoutConfig(attempt=60.0))
        stack = Stack(TARGET, policy, clock=clock, find_function=FUNCTIONS.__getitem__)
        results = iter(["", "paid"])

        assert "paid" == guard(stack, lambda: next(results))()


@pytest.mark.filterwarnings("error")
def test_a_predicate_that_returned_a_coroutine_rejected_every_result(both_worlds, clock, events):
    """
    It is refused with its name, and the coroutine closed: nobody will await it.
    """

    async def looks_empty(value):
        return not value

    policy = TargetPolicy(retry=steady())
    found = {"looks_empty": lambda value: looks_empty(value)}.__getitem__
    call = both_worlds("paid", stack=Stack(TARGET, policy, clock=clock, emit=events.append, find_function=found))
    with pytest.raises(ValidationError, match="looks_empty must be a plain function, but it returned a coroutine"):
        call()
    gc.collect()

    assert 1 == call.calls
