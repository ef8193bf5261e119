from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from pixel_llm.errors import CircuitBreakerOpen, ConnectionError, ErrorCode
from pixel_llm.events import CallFailed, CallRefused, RetryScheduled
from pixel_llm.policy import (
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    Jitter,
    RetryConfig,
    RetryStrategy,
)
from pixel_llm.resilience import CircuitState, Stack

TARGET = "shop.pay"


def waiting(**more):
    settings = {"strategy": RetryStrategy.FIXED_DELAY, "initial_delay": 2.0, "jitter": Jitter.NONE}
    return RetryConfig(**{**settings, "wait_for_breaker": True, **more})


def breaker(**more):
    return CircuitBreakerConfig(**{"failure_threshold": 1, "cooldown": 30.0, "success_threshold": 1, **more})


def open_now(stack: Stack) -> None:
    stack.breaker.record_failure(stack.breaker.acquire(), ConnectionError("gone"))


class TestRefusedCall:
    def test_waits_out_the_cooldown(self, both_worlds, clock, events):
        """
        A call that meets an open breaker waits until a trial is let through; that is no attempt.
        """
        call = both_worlds("paid", retry=waiting(), circuit_breaker=breaker(), deadline=60.0)
        open_now(call.stack)
        clock.advance(10.0)
        outcome = call.outcome()

        assert ("paid", 1) == (outcome.value, outcome.attempts)
        assert 20.0 == pytest.approx(outcome.elapsed, abs=0.002)
        assert CircuitState.CLOSED is call.stack.breaker.state
        assert [] == [event for event in events if isinstance(event, CallRefused)]
        (scheduled, *_) = [event for event in events if isinstance(event, RetryScheduled)]
        assert (0, ErrorCode.ERR_CB_OPEN) == (scheduled.attempt, scheduled.error_code)
        assert 20.0 == pytest.approx(scheduled.delay)

    def test_has_all_its_attempts_still(self, both_worlds, clock):
        """
        After the wait, max_attempts attempts are left.
        """
        error = ConnectionError("gone")
        call = both_worlds(error, error, error, "paid", retry=waiting(), circuit_breaker=breaker(cooldown=5.0))
        open_now(call.stack)
        with pytest.raises(ConnectionError):
            call()

        assert 3 == call.calls

    def test_may_be_the_only_thing_that_retry_does(self, both_worlds):
        """
        With one attempt the wait is still made.
        """
        call = both_worlds("paid", retry=waiting(max_attempts=1), circuit_breaker=breaker())
        open_now(call.stack)

        assert "paid" == call()

    def test_fails_now_where_the_deadline_comes_first(self, both_worlds, clock, events):
        """
        A cooldown that would outlive the deadline isn't waited for, and the error says when to come back.
        """
        call = both_worlds("paid", retry=waiting(), circuit_breaker=breaker(), deadline=30.0)
        open_now(call.stack)
        with pytest.raises(CircuitBreakerOpen) as raised:
            call()

        assert 30.0 == pytest.approx(raised.value.retry_after)
        assert 1000.1 == clock.monotonic()
        assert "the circuit breaker refused, and waiting 30.0 s for it would outlive the deadline" == events[-1].reason

    def test_waits_again_if_others_fail_their_trials(self, both_worlds, clock):
        """
        Whoever comes first has the trial; if it fails, the wait begins anew, until the deadline ends it.
        """
        call = both_worlds("paid", retry=waiting(), circuit_breaker=breaker(), deadline=100.0)
        stack = call.stack
        open_now(stack)
        stack.listener = lambda event: None
        sleeps = []

        def sleep(seconds):
            sleeps.append(seconds)
            clock.advance(seconds)
            clock.advance(0.001)
            open_now(stack)

        async def sleep_async(seconds):
            sleep(seconds)

        clock.sleep, clock.sleep_async = sleep, sleep_async
        with pytest.raises(CircuitBreakerOpen):
            call()

        assert [30.0, 30.0, 30.0] == [pytest.approx(seconds) for seconds in sleeps]

    @pytest.mark.parametrize("cooldown", [2.0, 30.0, 3600.0])
    def test_looks_again_while_trials_are_under_way(self, both_worlds, clock, cooldown):
        """
        Nobody knows how long others' trial calls take, so the breaker is asked again now and then.
        """
        call = both_worlds("paid", retry=waiting(), circuit_breaker=breaker(cooldown=cooldown), deadline=10_000.0)
        stack = call.stack
        open_now(stack)
        clock.advance(cooldown + 0.1)
        permit = stack.breaker.acquire()  # somebody's trial
        sleeps = []

        def sleep(seconds):
            sleeps.append(seconds)
            clock.advance(seconds)
            if len(sleeps) == 20:
                stack.breaker.record_success(permit)

        async def sleep_async(seconds):
            sleep(seconds)

        clock.sleep, clock.sleep_async = sleep, sleep_async

        assert "paid" == call()
        assert 20 == len(sleeps) == len(set(sleeps))
        assert all(min(1.0, cooldown / 20) / 2 <= seconds <= min(1.0, cooldown / 20) for seconds in sleeps)

    def test_a_trial_that_hangs_was_waited_for_without_end(self, both_worlds, clock, events):
        """
        Without a deadline others' trial calls are waited for as long as a cooldown, and no longer.
        """
        call = both_worlds("paid", retry=waiting(), circuit_breaker=breaker(cooldown=30.0))
        open_now(call.stack)
        clock.advance(30.1)
        call.stack.breaker.acquire()  # somebody's trial, which never ends
        began = clock.monotonic()
        with pytest.raises(CircuitBreakerOpen):
            call()

        assert 30.0 <= clock.monotonic() - began < 31.0
        (failed,) = [event for event in events if isinstance(event, CallFailed)]
        assert failed.reason.endswith(", whose trial calls have not ended for 30 s, and no deadline bounds the wait"), (
            failed.reason
        )

    def test_trials_that_end_are_waited_for_anew(self, both_worlds, clock):
        """
        A cooldown between two rounds of trials begins the reckoning again.
        """
        call = both_worlds("paid", retry=waiting(), circuit_breaker=breaker(cooldown=30.0))
        stack, sleeps = call.stack, []
        open_now(stack)
        clock.advance(30.1)
        permits = [stack.breaker.acquire()]

        def sleep(seconds):
            sleeps.append(seconds)
            clock.advance(seconds)
            if len(sleeps) == 20:
                stack.breaker.record_failure(permits.pop(), ConnectionError("gone"))
            elif len(sleeps) == 21:
                permits.append(stack.breaker.acquire())
            elif len(sleeps) == 45:
                stack.breaker.record_success(permits.pop())

        async def sleep_async(seconds):
            sleep(seconds)

        clock.sleep, clock.sleep_async = sleep, sleep_async

        assert "paid" == call()
        assert 45 == len(sleeps)

    def test_without_it_fails_now(self, both_worlds, clock):
        """
        By default an open breaker refuses at once.
        """
        call = both_worlds("paid", retry=waiting(wait_for_breaker=False), circuit_breaker=breaker())
        open_now(call.stack)
        with pytest.raises(CircuitBreakerOpen):
            call()

        assert 1000.1 == clock.monotonic()

    def test_a_fallback_serves_after_the_deadline_s_refusal(self, both_worlds):
        """
        Where it can't be waited for, the fallback stands in, as ever.
        """
        steps = (FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="sorry"),)
        call = both_worlds("paid", retry=waiting(), circuit_breaker=breaker(), deadline=10.0, fallback=steps)
        open_now(call.stack)

        assert ("sorry", 0) == (call.outcome().value, call.outcome().attempts)

    def test_another_refusal_is_not_waited_for(self, both_worlds, clock):
        """
        A call whose deadline has passed has nothing to wait for, breaker or not.
        """
        call = both_worlds("paid", retry=waiting(), circuit_breaker=breaker(), deadline=10.0)
        refusal = call.stack.timing.out_of_time(call.stack.timing.terms)
        call.stack.enter = call.stack.enter_at_once = lambda call: (_ for _ in ()).throw(refusal)
        with pytest.raises(TimeoutError):
            call.outcome()

    def test_a_breaker_that_stays_open_is_not_waited_for(self, both_worlds):
        """
        A refusal that doesn't say when it ends is final.
        """
        call = both_worlds("paid", retry=waiting(), circuit_breaker=breaker(), deadline=10.0)
        refusal = CircuitBreakerOpen("forced open", target=TARGET)
        call.stack.enter = call.stack.enter_at_once = lambda call: (_ for _ in ()).throw(refusal)
        with pytest.raises(CircuitBreakerOpen, match="forced open"):
            call.outcome()


class TestBreakerThatOpens:
    @pytest.mark.parametrize(("cooldown", "waited"), [(30.0, 30.0), (1.0, 2.0)])
    def test_the_longer_wait_counts(self, both_worlds, clock, cooldown, waited):
        """
        When an attempt opens the breaker, the retry waits as long as both want it to.
        """
        call = both_worlds(
            ConnectionError("gone"), "paid", retry=waiting(), circuit_breaker=breaker(cooldown=cooldown), deadline=60.0
        )

        assert "paid" == call()
        assert waited == pytest.approx(clock.monotonic() - 1000.1, abs=0.002)

    def test_beyond_the_deadline_fails_now(self, both_worlds, clock, events):
        """
        Else the call fails with the error that opened it.
        """
        call = both_worlds(ConnectionError("gone"), "paid", retry=waiting(), circuit_breaker=breaker(), deadline=20.0)
        with pytest.raises(ConnectionError):
            call()

        assert 1000.1 == clock.monotonic()
        assert (
            "the circuit breaker has opened, and waiting 30.0 s for it would outlive the deadline" == events[-1].reason
        )

    def test_without_it_ends_the_retries(self, both_worlds, events):
        """
        By default waiting can't close it in time.
        """
        call = both_worlds(
            ConnectionError("gone"), retry=waiting(wait_for_breaker=False), circuit_breaker=breaker(), deadline=60.0
        )
        with pytest.raises(ConnectionError):
            call()

        assert "the circuit breaker has opened" == events[-1].reason


class TestInvariants:
    @settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        cooldown=st.floats(0.01, 40),
        deadline=st.floats(0.01, 60),
        before=st.floats(0, 40),
        failures=st.integers(0, 4),
        attempts=st.integers(1, 5),
        first=st.floats(0, 5),
        jitter=st.sampled_from(Jitter),
    )
    def test_never_past_the_deadline(
        self, both_worlds, clock, cooldown, deadline, before, failures, attempts, first, jitter
    ):
        """
        However long breaker and waits would take, no wait outlives the deadline, and attempts stay within bounds.
        """
        call = both_worlds(
            *[ConnectionError("gone")] * failures,
            "paid",
            retry=waiting(max_attempts=attempts, initial_delay=first, jitter=jitter),
            circuit_breaker=breaker(cooldown=cooldown),
            deadline=deadline,
        )
        open_now(call.stack)
        clock.advance(before)
        started = clock.monotonic()
        try:
            call()
        except (ConnectionError, CircuitBreakerOpen, TimeoutError):
            pass
        else:
            assert failures < attempts

        assert clock.monotonic() - started < deadline + 1e-9
        assert call.calls <= attempts
