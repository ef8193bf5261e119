import ast
import contextlib
import copy
import gc
import itertools
import os
import pickle
import random
import sys
import threading
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pixel_llm
from pixel_llm.errors import APIError, CircuitBreakerOpen, ConnectionError, ErrorCode, ValidationError
from pixel_llm.policy import BreakerMode, CircuitBreakerConfig, WindowConfig
from pixel_llm.resilience import CircuitBreaker, CircuitState, KeyedBreakers
from pixel_llm.resilience.breaker.no_breaker import NO_BREAKER

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


@pytest.fixture
def changes():
    return []


@pytest.fixture
def make(clock, changes):
    def make(**config):
        defaults = {"failure_threshold": 3, "cooldown": 60.0, "success_threshold": 2, "half_open_max_calls": 1}
        return CircuitBreaker(
            "shop.pay",
            CircuitBreakerConfig(**(defaults | config)),
            clock=clock,
            on_change=lambda *change: changes.append(change),
        )

    return make


def fail(breaker, times=1, error=None):
    for _ in range(times):
        breaker.record_failure(breaker.acquire(), error or ConnectionError("gone", error_code=ErrorCode.ERR_CONN_LOST))


def succeed(breaker, times=1):
    for _ in range(times):
        breaker.record_success(breaker.acquire())


def in_threads(number, function):
    """Run *function* in *number* threads that start together, switching as often as they can."""
    barrier = threading.Barrier(number)

    def start(index):
        barrier.wait(10)
        return function(index)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(number) as pool:
            return list(pool.map(start, range(number)))
    finally:
        sys.setswitchinterval(interval)


class TestClosed:
    def test_opens_at_the_threshold(self, make):
        """
        One failure fewer than the threshold changes nothing; the next one opens the breaker.
        """
        breaker = make()
        fail(breaker, 2)

        assert (CLOSED, 2) == (breaker.state, breaker.failures)

        fail(breaker)

        assert OPEN is breaker.state

    def test_a_threshold_of_one_opens_at_once(self, make):
        """
        With failure_threshold 1 the first failure opens.
        """
        breaker = make(failure_threshold=1)
        fail(breaker)

        assert OPEN is breaker.state

    def test_success_forgets_the_failures(self, make):
        """
        Only failures in a row count: a success in between starts over.
        """
        breaker = make()
        for _ in range(10):
            fail(breaker, 2)
            succeed(breaker)

        assert (CLOSED, 0) == (breaker.state, breaker.failures)

    def test_a_neutral_end_changes_nothing(self, make):
        """
        A call that proved nothing neither counts nor forgets.
        """
        breaker = make()
        fail(breaker, 2)
        breaker.release(breaker.acquire())

        assert 2 == breaker.failures

    def test_lets_any_number_through(self, make):
        """
        A closed breaker limits nothing: half_open_max_calls is for trial calls only.
        """
        breaker = make()

        assert 1 == len({breaker.acquire() for _ in range(100)})

    def test_failures_are_forgotten_by_reset(self, make, changes):
        """
        reset() of a closed breaker forgets failures, and changes no state.
        """
        breaker = make()
        fail(breaker, 2)
        breaker.reset()

        assert 0 == breaker.failures
        assert [] == changes


class TestOpen:
    def test_refuses_until_the_cooldown_is_over(self, make, clock):
        """
        Every call is refused up to the last moment of the cooldown, by the injected monotonic clock.
        """
        breaker = make()
        fail(breaker, 3)
        for _ in range(4):
            with pytest.raises(CircuitBreakerOpen):
                breaker.acquire()
            clock.advance(14.99)

        assert OPEN is breaker.state

        clock.advance(0.05)
        breaker.acquire()

        assert HALF_OPEN is breaker.state

    def test_state_stays_open_until_somebody_calls(self, make, clock):
        """
        Time alone changes no state: the first call after the cooldown does.
        """
        breaker = make()
        fail(breaker, 3)
        clock.advance(3600)

        assert OPEN is breaker.state
        assert 0.0 == breaker.retry_after()

    def test_retry_after_counts_down(self, make, clock):
        """
        retry_after() is what is left of the cooldown; 0 while closed.
        """
        breaker = make(cooldown=60.0)

        assert 0.0 == breaker.retry_after()

        fail(breaker, 3)
        clock.advance(20)

        assert 40.0 == pytest.approx(breaker.retry_after())

    def test_a_cooldown_that_no_clock_can_measure_tries_at_once(self, make):
        """
        With a cooldown of hardly anything the next call is a trial.
        """
        breaker = make(cooldown=1e-300)
        fail(breaker, 3)
        breaker.acquire()

        assert HALF_OPEN is breaker.state

    def test_refusal_says_why_and_until_when(self, make, clock):
        """
        The error names the target, the failures, the last code, and the time to the next trial.
        """
        breaker = make()
        fail(breaker, 3)
        clock.advance(55.8)
        with pytest.raises(CircuitBreakerOpen) as caught:
            breaker.acquire()
        error = caught.value

        assert "shop.pay: circuit breaker is open after 3 failures (last: ERR_CONN_LOST); next trial in 4.2 s" == str(
            error
        )
        assert ErrorCode.ERR_CB_OPEN is error.error_code
        assert "shop.pay" == error.target
        assert 4.2 == pytest.approx(error.retry_after)
        assert {"state": "open", "last_error_code": ErrorCode.ERR_CONN_LOST} == error.details

    def test_one_failure_is_no_plural(self, make):
        """
        After a single failure of unknown kind, the message says so.
        """
        breaker = make(failure_threshold=1)
        breaker.record_failure(breaker.acquire())
        with pytest.raises(CircuitBreakerOpen) as caught:
            breaker.acquire()

        assert "shop.pay: circuit breaker is open after 1 failure; next trial in 60.0 s" == str(caught.value)

    def test_reset_closes(self, make, changes):
        """
        reset() closes an open breaker at once, with no failure left.
        """
        breaker = make()
        fail(breaker, 3)
        breaker.reset()

        assert (CLOSED, 0) == (breaker.state, breaker.failures)
        assert [(CLOSED, OPEN), (OPEN, CLOSED)] == [change[:2] for change in changes]

        fail(breaker, 2)

        assert CLOSED is breaker.state


class TestHalfOpen:
    @pytest.fixture
    def half_open(self, make, clock):
        """A breaker whose next call is a trial."""

        def half_open(**config):
            breaker = make(**config)
            fail(breaker, breaker.config.failure_threshold)
            clock.advance(60.05)
            return breaker

        return half_open

    def test_closes_after_enough_successes(self, half_open):
        """
        success_threshold trial calls in a row must succeed.
        """
        breaker = half_open(success_threshold=3)
        succeed(breaker, 2)

        assert HALF_OPEN is breaker.state

        succeed(breaker)

        assert (CLOSED, 0) == (breaker.state, breaker.failures)

    def test_successes_of_an_earlier_try_do_not_count(self, half_open, clock):
        """
        After it has opened again, the successes are counted from zero.
        """
        breaker = half_open(success_threshold=2)
        succeed(breaker)
        fail(breaker)
        clock.advance(60.05)
        succeed(breaker)

        assert HALF_OPEN is breaker.state

    def test_a_failure_opens_again(self, half_open, clock):
        """
        One failed trial call opens the breaker for a whole new cooldown.
        """
        breaker = half_open(success_threshold=5)
        succeed(breaker, 4)
        fail(breaker)

        assert OPEN is breaker.state
        assert 60.0 == pytest.approx(breaker.retry_after())

    def test_refusal_after_a_failed_trial(self, half_open):
        """
        What opened the breaker again is named: a trial call, not the failures of long ago.
        """
        breaker = half_open()
        fail(breaker, error=APIError("down"))
        with pytest.raises(CircuitBreakerOpen) as caught:
            breaker.acquire()

        assert (
            "shop.pay: circuit breaker is open after a failed trial call (last: ERR_API_SERVER_ERROR); "
            "next trial in 60.0 s" == str(caught.value)
        )

    @pytest.mark.parametrize(("allowed", "words"), [(1, "1 trial call is"), (3, "3 trial calls are")])
    def test_refuses_beyond_its_trial_calls(self, half_open, allowed, words):
        """
        While half_open_max_calls trials are under way, more calls are refused, without a time to come back.
        """
        breaker = half_open(half_open_max_calls=allowed)
        for _ in range(allowed):
            breaker.acquire()
        with pytest.raises(CircuitBreakerOpen) as caught:
            breaker.acquire()

        assert f"shop.pay: circuit breaker is half open (last: ERR_CONN_LOST): {words} under way" == str(caught.value)
        assert ErrorCode.ERR_CB_HALF_OPEN is caught.value.error_code
        assert {"state": "half_open", "last_error_code": ErrorCode.ERR_CONN_LOST} == caught.value.details
        assert caught.value.retry_after is None

    @pytest.mark.parametrize("settle", ["record_success", "release"])
    def test_permits_come_back(self, half_open, settle):
        """
        A trial that has ended makes room for the next one, proved it something or not.
        """
        breaker = half_open(success_threshold=100)
        for _ in range(50):
            getattr(breaker, settle)(breaker.acquire())

        assert HALF_OPEN is breaker.state

    def test_neutral_ends_never_close(self, half_open):
        """
        Trials that proved nothing are no successes.
        """
        breaker = half_open(success_threshold=1)
        for _ in range(50):
            breaker.release(breaker.acquire())

        assert HALF_OPEN is breaker.state

    def test_never_more_trials_than_allowed(self, half_open):
        """
        Of 50 threads that ask at the same moment, half_open_max_calls get through.
        """
        for _ in range(10):
            breaker = half_open(half_open_max_calls=3)
            answers = in_threads(50, lambda index, breaker=breaker: breaker.allow_request())

            assert 3 == sum(answers)

    def test_never_more_trials_in_flight_while_they_come_and_go(self, half_open):
        """
        Permits given back at random times by 50 threads never add up to one more.
        """
        breaker = half_open(half_open_max_calls=3, success_threshold=10_000)
        lock, inside, most = threading.Lock(), 0, 0

        def work(index):
            nonlocal inside, most
            chance = random.Random(index)
            for _ in range(40):
                try:
                    permit = breaker.acquire()
                except CircuitBreakerOpen:
                    continue
                with lock:
                    inside += 1
                    most = max(most, inside)
                with lock:
                    inside -= 1
                (breaker.release if chance.random() < 0.5 else breaker.record_success)(permit)

        in_threads(50, work)

        assert 1 <= most <= 3
        assert [True] * 3 + [False] == [breaker.allow_request() for _ in range(4)]

    def test_reset_closes_and_forgets_the_trials(self, half_open, clock):
        """
        After reset() nothing of the half-open period is left, not even its permits.
        """
        breaker = half_open()
        permit = breaker.acquire()
        breaker.reset()
        breaker.record_failure(permit)

        assert (CLOSED, 0) == (breaker.state, breaker.failures)


class TestStalePermit:
    """A call admitted before a change of state settles nothing after it."""

    @pytest.mark.parametrize("settle", ["record_success", "record_failure", "release"])
    def test_from_closed_in_open(self, make, settle):
        """
        A call that outlives the opening neither closes the breaker nor prolongs the cooldown.
        """
        breaker = make()
        slow = breaker.acquire()
        fail(breaker, 3)
        getattr(breaker, settle)(slow)

        assert (OPEN, 3) == (breaker.state, breaker.failures)

    @pytest.mark.parametrize("settle", ["record_success", "record_failure", "release"])
    def test_from_closed_in_half_open(self, make, clock, settle):
        """
        A call from before the opening is no trial call: it gives no permit back, and decides nothing.
        """
        breaker = make(success_threshold=1)
        slow = breaker.acquire()
        fail(breaker, 3)
        clock.advance(60.05)
        breaker.acquire()
        getattr(breaker, settle)(slow)

        assert HALF_OPEN is breaker.state
        assert not breaker.allow_request()

    def test_from_half_open_in_the_next_half_open(self, make, clock):
        """
        A trial that outlives its period does not count in the next one.
        """
        breaker = make(half_open_max_calls=2, success_threshold=1)
        fail(breaker, 3)
        clock.advance(60.05)
        slow = breaker.acquire()
        fail(breaker)
        clock.advance(60.05)
        breaker.acquire()
        breaker.record_success(slow)

        assert HALF_OPEN is breaker.state

    def test_takes_no_room_in_the_next_half_open(self, make, clock):
        """
        Trials that never end keep nobody from the trials of a later period.
        """
        breaker = make(half_open_max_calls=2)
        fail(breaker, 3)
        for _ in range(3):
            clock.advance(60.05)
            breaker.acquire()
            fail(breaker)
        clock.advance(60.05)

        assert [True, True, False] == [breaker.allow_request() for _ in range(3)]

    def test_from_half_open_in_closed(self, make, clock):
        """
        A trial that fails after another one has closed the breaker is not held against it.
        """
        breaker = make(half_open_max_calls=2, success_threshold=1)
        fail(breaker, 3)
        clock.advance(60.05)
        slow = breaker.acquire()
        succeed(breaker)
        breaker.record_failure(slow)

        assert (CLOSED, 0) == (breaker.state, breaker.failures)


class TestAllowRequest:
    def test_settles_without_a_permit(self, make, clock):
        """
        allow_request(), record_failure() and record_success() make a whole breaker by themselves.
        """
        breaker = make(failure_threshold=2, success_threshold=1)
        for _ in range(2):
            assert breaker.allow_request()
            breaker.record_failure()

        assert not breaker.allow_request()

        clock.advance(60.05)

        assert [True, False] == [breaker.allow_request(), breaker.allow_request()]

        breaker.record_success()

        assert CLOSED is breaker.state

    @pytest.mark.parametrize("config", [{}, {"failure_rate": 0.5, "minimum_calls": 2}], ids=["in a row", "a rate"])
    def test_failure_while_open_changes_nothing(self, make, clock, changes, config):
        """
        A failure that comes in while the breaker is open neither counts nor prolongs it, and is not its last error.
        """
        breaker = make(**config)
        while breaker.state is CLOSED:
            fail(breaker)
        clock.advance(10.0)
        before = (breaker.state, breaker.failures, breaker.retry_after(), list(changes))
        breaker.record_failure(error=APIError("down"), elapsed=1.0)

        assert before == (breaker.state, breaker.failures, breaker.retry_after(), changes)
        with pytest.raises(CircuitBreakerOpen, match=r"last: ERR_CONN_LOST\); next trial in 50.0 s"):
            breaker.acquire()

    def test_success_while_open_changes_nothing(self, make):
        """
        A success reported to an open breaker, which let nobody through, is not believed.
        """
        breaker = make()
        fail(breaker, 3)
        breaker.record_success()

        assert OPEN is breaker.state


class TestDefaults:
    @pytest.mark.parametrize("config", [{}, 0, ""])
    def test_only_nothing_stands_for_them(self, config):
        """
        What is empty is no config.
        """
        with pytest.raises(ValidationError, match="CircuitBreakerConfig: "):
            CircuitBreaker("shop.pay", config)

    def test_stand_in_the_config(self):
        """
        Without a config there are the config's defaults, and the real clock.
        """
        breaker = CircuitBreaker("shop.pay")

        assert CircuitBreakerConfig() == breaker.config
        assert (5, 60.0, 2, 1) == (
            breaker.config.failure_threshold,
            breaker.config.cooldown,
            breaker.config.success_threshold,
            breaker.config.half_open_max_calls,
        )

        fail(breaker, 5)

        assert 59.0 < breaker.retry_after() <= 60.0


class TestOnChange:
    def test_tells_each_change_once_and_in_order(self, make, clock, changes):
        """
        A change comes with the old and the new state, the failures and the last code.
        """
        breaker = make(success_threshold=1)
        fail(breaker, 3)
        clock.advance(60.05)
        succeed(breaker)
        lost = ErrorCode.ERR_CONN_LOST

        assert [(CLOSED, OPEN, 3, lost), (OPEN, HALF_OPEN, 3, lost), (HALF_OPEN, CLOSED, 0, lost)] == changes

    def test_may_use_the_breaker(self, clock):
        """
        No lock is held while the callback runs, so it may ask the breaker anything, and settle too.
        """
        seen = []

        def on_change(old, new, failures, code):
            seen.append((new, breaker.state, breaker.failures, breaker.retry_after(), breaker.allow_request()))
            breaker.release()

        breaker = CircuitBreaker(
            "shop.pay",
            CircuitBreakerConfig(failure_threshold=1, success_threshold=1, half_open_max_calls=2),
            clock=clock,
            on_change=on_change,
        )

        def work():
            fail(breaker)
            clock.advance(60.05)
            succeed(breaker)
            fail(breaker)
            breaker.reset()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(5)

        assert not thread.is_alive()
        assert [OPEN, HALF_OPEN, CLOSED, OPEN, CLOSED] == [new for new, *_ in seen]
        assert [(OPEN, OPEN, 1, 60.0, False)] == [
            (new, state, failures, round(wait, 6), allowed) for new, state, failures, wait, allowed in seen[:1]
        ]

    def test_tells_once_under_threads(self, make, changes):
        """
        However many failures arrive at once, the breaker opens once and tells it once.
        """
        breaker = make(failure_threshold=50)
        permits = [breaker.acquire() for _ in range(50)]
        in_threads(50, lambda index: breaker.record_failure(permits[index]))

        assert [(CLOSED, OPEN, 50, None)] == changes

    def test_a_callback_that_raises_keeps_nobody_from_being_told(self, clock):
        """
        What it raises reaches who caused the change; the next change is told all the same.
        """
        told = []

        def on_change(old, new, *_):
            told.append(new)
            if new is OPEN:
                raise RuntimeError("the pager is empty")

        breaker = CircuitBreaker(
            "shop.pay", CircuitBreakerConfig(failure_threshold=1), clock=clock, on_change=on_change
        )
        with pytest.raises(RuntimeError, match="the pager is empty"):
            breaker.record_failure(breaker.acquire())
        breaker.reset()

        assert [OPEN, CLOSED] == told

    def test_another_thread_s_change_is_told_in_its_turn(self, clock):
        """
        While one change is being told another thread makes the next one; it does not overtake.
        """
        told, telling, go_on = [], threading.Event(), threading.Event()

        def on_change(old, new, *_):
            if new is OPEN:
                telling.set()
                go_on.wait(10)
            told.append(new)

        breaker = CircuitBreaker(
            "shop.pay", CircuitBreakerConfig(failure_threshold=1), clock=clock, on_change=on_change
        )
        thread = threading.Thread(target=fail, args=(breaker,))
        thread.start()
        telling.wait(10)
        breaker.reset()

        assert ([], CLOSED) == (told, breaker.state)

        go_on.set()
        thread.join(10)

        assert [OPEN, CLOSED] == told


class TestFork:
    def test_forgets_what_other_threads_held(self, make, clock, changes):
        """
        In a forked child no lock is held, no trial of the parent's threads blocks, and changes are told.
        """
        breaker = make()
        fail(breaker, 3)
        clock.advance(60.05)
        breaker.acquire()
        breaker._lock.acquire()
        breaker.forget()

        assert [True, False] == [breaker.allow_request(), breaker.allow_request()]

        changes.clear()
        breaker.record_failure()

        assert [(HALF_OPEN, OPEN)] == [change[:2] for change in changes]

    @pytest.mark.parametrize("mode", BreakerMode)
    def test_keeps_its_mode(self, mode):
        """
        What is forced open stays so; what is closed stays closed, and counts.
        """
        breaker = CircuitBreaker("shop.pay", CircuitBreakerConfig(mode=mode, failure_threshold=1))
        breaker.forget()

        assert (mode is not BreakerMode.FORCED_OPEN) == breaker.allow_request()

        breaker.record_failure()

        assert (mode is not BreakerMode.DISABLED) == (breaker.state is OPEN)

        breaker.forget()

        assert (mode in (BreakerMode.DISABLED, BreakerMode.SHADOW)) == breaker.allow_request()

    def test_keyed_ones_forget_their_lock(self):
        """
        So do the breakers of keys.
        """
        breakers = KeyedBreakers(lambda key: CircuitBreaker("shop.pay", key=key), 5)
        breakers._lock.acquire()
        breakers.forget()

        assert "small" == breakers.get("small").key

    def test_in_a_real_child(self):
        """
        A child that was forked while another thread was in the breaker can use it.
        """
        breaker = CircuitBreaker("shop.pay", CircuitBreakerConfig(failure_threshold=1))
        with breaker._lock:
            child = os.fork()
            if child == 0:
                breaker.record_failure()
                os._exit(0 if breaker.state is OPEN else 1)

        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class TestCounting:
    def test_is_exact_under_threads(self, make):
        """
        No failure is lost or counted twice when threads report at once.
        """
        breaker = make(failure_threshold=10_000)
        in_threads(20, lambda index: fail(breaker, 100))

        assert (CLOSED, 2000) == (breaker.state, breaker.failures)

    def test_leaves_the_error_as_it_was(self, make):
        """
        Counting an error adds nothing to its traceback, even when it opens the breaker.
        """
        breaker = make(failure_threshold=1)
        error = ConnectionError("gone")
        breaker.record_failure(breaker.acquire(), error)

        assert OPEN is breaker.state
        assert error.__traceback__ is None

    def test_a_fault_of_the_engine_is_not_swallowed(self, make, monkeypatch):
        """
        Only the error that was handed in is expected back from pybreaker.
        """
        breaker = make(failure_threshold=2)
        fail(breaker)

        def broken(*_):
            raise RuntimeError("engine fault")

        monkeypatch.setattr(type(breaker._machine._engine.state), "on_failure", broken)
        with pytest.raises(RuntimeError, match="engine fault"):
            fail(breaker)


class TestRates:
    @pytest.fixture
    def rated(self, make):
        """A breaker that opens when half of at least 4 of the last 10 calls fail."""

        def rated(**config):
            defaults = {"failure_rate": 0.5, "failure_threshold": None, "minimum_calls": 4}
            return make(**(defaults | {"window": WindowConfig(calls=10)} | config))

        return rated

    def test_opens_at_the_failure_rate(self, rated):
        """
        The rate counts, not the order: successes in between forget nothing.
        """
        breaker = rated()
        for _ in range(2):
            succeed(breaker)
            fail(breaker)

        assert OPEN is breaker.state

    def test_never_below_the_minimum_of_calls(self, rated):
        """
        Three failures of three are no rate where four calls are the minimum; a fourth call, even a good one, is.
        """
        breaker = rated()
        fail(breaker, 3)

        assert CLOSED is breaker.state

        succeed(breaker)

        assert OPEN is breaker.state

    def test_replaces_the_failures_in_a_row(self, rated):
        """
        Five failures in a row, the default of old, open nothing where there is a failure rate, unless it says so.
        """
        breaker = rated(minimum_calls=10)
        fail(breaker, 9)

        assert (CLOSED, 9) == (breaker.state, breaker.failures)

        both = rated(minimum_calls=10, failure_threshold=5)
        fail(both, 5)

        assert OPEN is both.state

    def test_neutral_ends_are_no_calls(self, rated):
        """
        What proved nothing is not in the window.
        """
        breaker = rated()
        fail(breaker, 3)
        for _ in range(20):
            breaker.release(breaker.acquire())

        assert CLOSED is breaker.state

    def test_of_the_time_window(self, rated, clock):
        """
        Failures that are older than the period no longer count.
        """
        breaker = rated(window=WindowConfig(period=10.0))
        fail(breaker, 3)
        clock.advance(10.0)
        fail(breaker, 3)

        assert CLOSED is breaker.state

        fail(breaker)

        assert OPEN is breaker.state

    @pytest.mark.parametrize("settle", ["record_success", "record_failure"])
    def test_slow_calls_open_it(self, rated, settle):
        """
        Successes and failures are slow alike, beyond slow_call_duration, not at it.
        """
        breaker = rated(failure_rate=None, failure_threshold=99, slow_call_rate=0.75, slow_call_duration=2.0)
        for elapsed in (2.0, 2.1, 2.1):
            getattr(breaker, settle)(breaker.acquire(), elapsed=elapsed)

        assert CLOSED is breaker.state

        getattr(breaker, settle)(breaker.acquire(), elapsed=9.0)

        assert OPEN is breaker.state

    def test_refusals_say_which_rate_it_was(self, rated):
        """
        The message names the calls and what was wrong with them.
        """
        failing = rated()
        fail(failing, 4)
        slow = rated(slow_call_rate=0.5, slow_call_duration=2.0)
        for _ in range(4):
            slow.record_success(slow.acquire(), 2.5)

        with pytest.raises(
            CircuitBreakerOpen, match=r"is open after 4 of 4 calls failed \(last: ERR_CONN_LOST\); next"
        ):
            failing.acquire()
        with pytest.raises(CircuitBreakerOpen, match=r"is open after 4 of 4 calls took longer than 2s; next trial in"):
            slow.acquire()

    def test_a_slow_trial_opens_again(self, rated, clock):
        """
        A trial call that succeeds too late proves that the server is as slow as before.
        """
        breaker = rated(slow_call_rate=0.5, slow_call_duration=2.0, success_threshold=1)
        fail(breaker, 4)
        clock.advance(60.05)
        breaker.record_success(breaker.acquire(), 2.5)

        with pytest.raises(CircuitBreakerOpen, match="is open after a slow trial call"):
            breaker.acquire()

    @pytest.mark.parametrize("close", ["trial", "reset"])
    def test_closing_empties_the_window(self, rated, clock, close):
        """
        What opened the breaker is not counted again once it has closed.
        """
        breaker = rated(success_threshold=1)
        fail(breaker, 4)
        clock.advance(60.05)
        if close == "trial":
            succeed(breaker)
        else:
            breaker.reset()
        fail(breaker, 3)

        assert CLOSED is breaker.state

    def test_reset_of_a_closed_one_empties_it_too(self, rated):
        """
        After reset() there is nothing in the window.
        """
        breaker = rated()
        fail(breaker, 3)
        breaker.reset()
        succeed(breaker)

        assert CLOSED is breaker.state

    def test_are_exact_under_threads(self, rated):
        """
        With 400 calls of 20 threads in the window, the call that reaches the rate opens, and no other before it.
        """
        breaker = rated(failure_rate=1.0, minimum_calls=401, window=WindowConfig(calls=500))
        in_threads(20, lambda index: fail(breaker, 20))

        assert CLOSED is breaker.state

        fail(breaker)

        assert OPEN is breaker.state


class TestGrowingCooldown:
    def test_grows_with_each_opening_up_to_its_cap(self, make, clock):
        """
        10, 20, 40, then 50 s, as long as no trial closes the breaker.
        """
        breaker = make(cooldown=10.0, cooldown_multiplier=2.0, max_cooldown=50.0)
        fail(breaker, 3)
        waits = []
        for _ in range(5):
            waits.append(round(breaker.retry_after(), 6))
            clock.advance(waits[-1] + 0.01)
            fail(breaker)

        assert [10.0, 20.0, 40.0, 50.0, 50.0] == waits

    @pytest.mark.parametrize("close", ["trial", "reset"])
    def test_closing_starts_over(self, make, clock, close):
        """
        Once it has been closed, the first cooldown is the short one again.
        """
        breaker = make(cooldown=10.0, cooldown_multiplier=2.0, success_threshold=1)
        fail(breaker, 3)
        clock.advance(10.01)
        fail(breaker)
        clock.advance(20.01)
        if close == "trial":
            succeed(breaker)
        else:
            breaker.reset()
        fail(breaker, 3)

        assert 10.0 == pytest.approx(breaker.retry_after())


class TestHungTrials:
    def test_open_it_again(self, make, clock):
        """
        When every permit has been out for half_open_max_wait, the next caller finds the breaker open again.
        """
        breaker = make(half_open_max_calls=2, half_open_max_wait=30.0)
        fail(breaker, 3)
        clock.advance(60.05)
        hung = [breaker.acquire()]
        clock.advance(100.0)
        hung.append(breaker.acquire())
        clock.advance(29.9)
        with pytest.raises(CircuitBreakerOpen, match="2 trial calls are under way"):
            breaker.acquire()
        clock.advance(0.2)
        with pytest.raises(CircuitBreakerOpen) as caught:
            breaker.acquire()

        assert (
            "shop.pay: circuit breaker is open after 2 trial calls without a verdict for 30s (last: ERR_CONN_LOST); "
            "next trial in 60.0 s" == str(caught.value)
        )

        clock.advance(60.05)
        for permit in hung:
            breaker.record_success(permit)

        assert [OPEN, True, True, False] == [breaker.state, *(breaker.allow_request() for _ in range(3))]

    def test_without_a_limit_block_for_ever(self, make, clock):
        """
        half_open_max_wait is for those whose calls no timeout ends.
        """
        breaker = make()
        fail(breaker, 3)
        clock.advance(60.05)
        breaker.acquire()
        clock.advance(1e6)

        assert (False, HALF_OPEN) == (breaker.allow_request(), breaker.state)

    def test_an_idle_breaker_stays_half_open(self, make, clock):
        """
        Where a permit is free nobody is blocked, so however seldom calls come, the successes add up.
        """
        breaker = make(half_open_max_wait=30.0, success_threshold=3)
        fail(breaker, 3)
        for _ in range(3):
            clock.advance(1000.0)
            succeed(breaker)

        assert CLOSED is breaker.state

    def test_check_notices_them(self, make, clock):
        """
        Who only asks whether a call would be admitted is told that the breaker has opened.
        """
        breaker = make(half_open_max_wait=30.0)
        fail(breaker, 3)
        clock.advance(60.05)
        breaker.acquire()
        clock.advance(30.0)
        with pytest.raises(CircuitBreakerOpen, match="without a verdict"):
            breaker.check()

        assert OPEN is breaker.state


class TestCheck:
    def test_takes_no_permit(self, make, clock):
        """
        Asking changes nothing: the trial is still there to be taken, and the state is that of before.
        """
        breaker = make()
        breaker.check()
        fail(breaker, 3)
        with pytest.raises(CircuitBreakerOpen, match=r"next trial in 60.0 s"):
            breaker.check()
        clock.advance(60.05)
        for _ in range(3):
            breaker.check()

        assert OPEN is breaker.state

        breaker.acquire()
        with pytest.raises(CircuitBreakerOpen, match="1 trial call is under way"):
            breaker.check()

    def test_without_a_callback(self, clock):
        """
        A breaker of which nobody wants to hear works by itself.
        """
        breaker = CircuitBreaker("shop.pay", CircuitBreakerConfig(failure_threshold=1), clock=clock)
        fail(breaker)
        clock.advance(60.05)
        breaker.check()
        breaker.acquire()
        with pytest.raises(CircuitBreakerOpen, match="1 trial call is under way"):
            breaker.check()

    def test_where_there_is_no_breaker(self):
        """
        What stands in its place refuses nobody, and counts nothing.
        """
        NO_BREAKER.check()
        NO_BREAKER.record_success(NO_BREAKER.acquire(), 1.0)
        NO_BREAKER.record_failure(0, ValueError(), 1.0)
        NO_BREAKER.release(0)

        assert (0, False, False) == (NO_BREAKER.closed_period, NO_BREAKER.eventful, NO_BREAKER.would_refuse())
        assert 0.0 == NO_BREAKER.retry_after()


class TestRelease:
    def test_needs_no_lock(self, make, clock):
        """
        The garbage collector may end a stream in the very thread that holds the lock: that must not wait for itself.
        """
        breaker = make()
        fail(breaker, 3)
        clock.advance(60.05)
        permit = breaker.acquire()
        with breaker._lock:
            breaker.release(permit)
        breaker.acquire()

        assert HALF_OPEN is breaker.state

    def test_of_a_stale_permit_leaves_nothing_behind(self, make):
        """
        Calls that outlive the opening do not fill the memory of an open breaker.
        """
        breaker = make()
        permit = breaker.acquire()
        fail(breaker, 3)
        for _ in range(100):
            breaker.release(permit)

        assert [] == breaker._given_back

    @pytest.mark.parametrize("settle", ["record_success", "record_failure", "release"])
    def test_of_a_trial_given_back_late(self, make, clock, settle):
        """
        A permit that came back while nobody asked is gone when the breaker has changed its state.
        """
        breaker = make(half_open_max_calls=3, success_threshold=1)
        fail(breaker, 3)
        clock.advance(60.05)
        permits = [breaker.acquire() for _ in range(3)]
        breaker.release(permits[0])
        fail_or_not = breaker.record_failure
        fail_or_not(permits[1])
        clock.advance(60.05)

        assert [True] * 3 + [False] == [breaker.allow_request() for _ in range(4)]

        getattr(breaker, settle)(permits[2])

        assert not breaker.allow_request()


class TestModes:
    def test_forced_open_refuses_for_good(self, make, clock, changes):
        """
        No time, no verdict and no reset lets a call through; the refusal names no time to come back.
        """
        breaker = make(mode=BreakerMode.FORCED_OPEN)
        breaker.record_success()
        breaker.record_failure()
        breaker.release()
        breaker.reset()
        clock.advance(1e6)
        for ask in (breaker.acquire, breaker.check):
            with pytest.raises(CircuitBreakerOpen) as caught:
                ask()

            assert "shop.pay: circuit breaker is forced open by its policy" == str(caught.value)
            assert (ErrorCode.ERR_CB_OPEN, None) == (caught.value.error_code, caught.value.retry_after)
        assert (OPEN, float("inf"), 0, []) == (breaker.state, breaker.retry_after(), breaker.failures, changes)

    def test_disabled_lets_everything_through(self, make, changes):
        """
        Nothing is measured, nothing changes.
        """
        breaker = make(mode=BreakerMode.DISABLED, failure_rate=0.1, minimum_calls=1)
        fail(breaker, 50)
        breaker.record_success(breaker.acquire())
        breaker.reset()
        breaker.check()

        assert (CLOSED, 0, False, []) == (breaker.state, breaker.failures, breaker.eventful, changes)

    def test_shadow_refuses_nobody_and_says_what_it_would_have_done(self, clock, changes):
        """
        It goes through its states as if it were enabled, and reports each call that would have been refused.
        """
        refusals = []
        breaker = CircuitBreaker(
            "shop.pay",
            CircuitBreakerConfig(mode=BreakerMode.SHADOW, failure_threshold=2, success_threshold=1, cooldown=10.0),
            clock=clock,
            on_change=lambda *change: changes.append(change[:2]),
            on_shadow_refusal=lambda *refusal: refusals.append(refusal),
        )
        fail(breaker, 2)
        clock.advance(4.0)
        breaker.check()
        succeed(breaker)
        fail(breaker, 3)

        assert (OPEN, 0.0) == (breaker.state, breaker.retry_after())
        assert [(ErrorCode.ERR_CB_OPEN, 6.0)] * 4 == [(code, round(wait, 6)) for code, wait in refusals]

        clock.advance(6.05)
        trial, beside = breaker.acquire(), breaker.acquire()
        breaker.record_failure(beside)
        breaker.check()

        assert HALF_OPEN is breaker.state
        assert (ErrorCode.ERR_CB_HALF_OPEN, None) == refusals[-1]

        breaker.record_success(trial)

        assert [(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED)] == changes

    def test_shadow_without_a_listener(self, make):
        """
        Nobody needs to listen.
        """
        breaker = make(mode=BreakerMode.SHADOW, failure_threshold=1)
        fail(breaker, 3)

        assert (OPEN, True) == (breaker.state, breaker.allow_request())


class TestKey:
    def test_is_named_in_refusals(self, clock):
        """
        Who reads the message knows which of the breakers it was; the target stays the target.
        """
        breaker = CircuitBreaker("shop.pay", CircuitBreakerConfig(failure_threshold=1), key="llava-7b", clock=clock)
        breaker.record_failure(breaker.acquire())
        with pytest.raises(CircuitBreakerOpen) as caught:
            breaker.acquire()

        assert "shop.pay: circuit breaker of 'llava-7b' is open after 1 failure; next trial in 60.0 s" == str(
            caught.value
        )
        assert "shop.pay" == caught.value.target


class TestRefusal:
    """It is made in a hurry, and is an exception like any other all the same."""

    @pytest.fixture
    def refusal(self, make):
        breaker = make()
        fail(breaker, 3)
        with pytest.raises(CircuitBreakerOpen) as caught:
            breaker.acquire()
        return caught.value

    @pytest.mark.parametrize("ask", [CircuitBreaker.check, CircuitBreaker.acquire])
    @pytest.mark.parametrize("half_open", [False, True])
    def test_keeps_nothing_alive(self, make, clock, ask, half_open):
        """
        What its callers had goes when they do: it lies in no cycle with the frames that it passed.
        """

        class Held:
            pass

        breaker = make()
        fail(breaker, 3)
        if half_open:
            clock.advance(breaker.config.cooldown)
            breaker.acquire()

        def call():
            held = Held()
            with contextlib.suppress(CircuitBreakerOpen):
                ask(breaker)
                raise AssertionError("it was not refused")
            return weakref.ref(held)

        gc.disable()
        try:
            assert call()() is None
        finally:
            gc.enable()

    def test_has_all_that_an_error_has(self, refusal):
        """
        What was not said yet is made when it is asked for.
        """
        text = "circuit breaker is open after 3 failures (last: ERR_CONN_LOST); next trial in 60.0 s"

        assert (text, (text,), f"CircuitBreakerOpen({text!r})") == (refusal.message, refusal.args, repr(refusal))
        assert {"state": "open", "last_error_code": ErrorCode.ERR_CONN_LOST} == refusal.details
        assert (None, None, ()) == (refusal.attempt, refusal.attempts, refusal.history)
        assert ErrorCode.ERR_CB_OPEN is refusal.info.code

    def test_details_are_its_own(self, make):
        """
        Writing into the details of one refusal shows in no other.
        """
        breaker = make()
        fail(breaker, 3)
        errors = []
        for _ in range(2):
            with pytest.raises(CircuitBreakerOpen) as caught:
                breaker.acquire()
            errors.append(caught.value)
        errors[0].details["more"] = 1

        assert "more" not in errors[1].details

    @pytest.mark.parametrize("read_before", [False, True])
    def test_pickles_and_copies(self, refusal, read_before):
        """
        Whether somebody has read it before or not, it arrives whole.
        """
        refusal.attempts = 2
        if read_before:
            str(refusal)
        for arrived in (pickle.loads(pickle.dumps(refusal)), copy.copy(refusal)):
            assert (str(refusal), refusal.args, repr(refusal)) == (str(arrived), arrived.args, repr(arrived))
            assert (refusal.details, refusal.retry_after, 2) == (arrived.details, arrived.retry_after, arrived.attempts)
            assert (refusal.error_code, "shop.pay") == (arrived.error_code, arrived.target)


class TestLaziness:
    def test_success_makes_no_engine(self, make):
        """
        While nothing fails, nothing of pybreaker's is made, and a success need not be told.
        """
        breaker = make()
        succeed(breaker, 10)
        breaker.release(breaker.acquire())
        breaker.reset()

        assert (None, None, False) == (breaker._machine, breaker._rates, breaker.eventful)

    def test_is_small(self):
        """
        A compiled breaker that was never used takes less than a kilobyte.
        """
        config = CircuitBreakerConfig(failure_rate=0.5)
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        breakers = [CircuitBreaker("shop.pay", config) for _ in range(100)]
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()

        assert taken / len(breakers) < 1024

    def test_eventful_until_the_failures_are_forgotten(self, make, clock):
        """
        Who calls knows without a lock whether a success changes anything.
        """
        breaker = make(success_threshold=1)
        fail(breaker)

        assert breaker.eventful

        succeed(breaker)

        assert not breaker.eventful

        fail(breaker, 3)
        clock.advance(60.05)

        assert breaker.eventful

        succeed(breaker)

        assert not breaker.eventful


class TestHammering:
    """Threads that ask, settle, hang and reset at once, with a clock that moves."""

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("mode", [BreakerMode.ENABLED, BreakerMode.SHADOW])
    def test_never_too_many_trials_and_changes_in_order(self, clock, mode, seed):
        """
        In each half-open period at most half_open_max_calls trials are under way; each change begins where the last
        one ended; and in the end the breaker still works.
        """
        config = CircuitBreakerConfig(
            mode=mode,
            failure_threshold=3,
            failure_rate=0.5,
            slow_call_rate=0.9,
            slow_call_duration=1.0,
            window=WindowConfig(period=5.0),
            minimum_calls=5,
            cooldown=1.0,
            cooldown_multiplier=1.5,
            max_cooldown=4.0,
            half_open_max_calls=3,
            half_open_max_wait=2.0,
        )
        told, lock, trials, most = [], threading.Lock(), {}, 0

        class Watched(CircuitBreaker):
            def _admit(self):
                permit = super()._admit()
                if self.state is HALF_OPEN:
                    trials.setdefault(permit, 0)
                return permit

        breaker = Watched("shop.pay", config, clock=clock, on_change=lambda *change: told.append(change[:2]))

        def work(index):
            nonlocal most
            chance = random.Random(seed * 100 + index)
            for _ in range(300):
                clock.advance(chance.random() / 20)
                try:
                    permit = breaker.acquire()
                except CircuitBreakerOpen:
                    continue
                trial = permit in trials
                if trial:
                    with lock:
                        trials[permit] += 1
                        most = max(most, trials[permit])
                end = chance.choice(["record_success"] * 5 + ["record_failure"] * 4 + ["release", "hang"])
                if end == "hang":
                    continue
                if trial:
                    with lock:
                        trials[permit] -= 1
                if end == "release":
                    breaker.release(permit)
                else:
                    getattr(breaker, end)(permit, elapsed=chance.random() * 2)
                if chance.random() < 0.002:
                    breaker.reset()

        in_threads(16, work)

        assert 1 <= most <= 3
        assert CLOSED is told[0][0]
        assert all(before[1] is after[0] for before, after in itertools.pairwise(told))
        assert told[-1][1] is breaker.state

        breaker.reset()
        fail(breaker, 3)

        assert OPEN is breaker.state


class TestEngine:
    def test_pybreaker_is_imported_in_one_module(self):
        """
        A change of pybreaker's is a change in one place of ours.
        """

        assert ["resilience/breaker/machine.py"] == importers_of("pybreaker")


def importers_of(name):
    root = Path(pixel_llm.__file__).parent
    found = []
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(imported.split(".")[0] == name for imported in names):
                found.append(path.relative_to(root).as_posix())
    return sorted(set(found))
