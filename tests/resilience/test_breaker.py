import ast
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

import pixel_llm
from pixel_llm.errors import APIError, CircuitBreakerOpen, ConnectionError, ErrorCode
from pixel_llm.policy import CircuitBreakerConfig
from pixel_llm.resilience import CircuitBreaker, CircuitState
from pixel_llm.testing import VirtualClock

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

    def test_a_cooldown_of_nothing_tries_at_once(self, make):
        """
        With cooldown 0 the next call is a trial.
        """
        breaker = make(cooldown=0.0)
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

    def test_success_while_open_changes_nothing(self, make):
        """
        A success reported to an open breaker, which let nobody through, is not believed.
        """
        breaker = make()
        fail(breaker, 3)
        breaker.record_success()

        assert OPEN is breaker.state


class TestDefaults:
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
        breaker = make(failure_threshold=1)

        def broken(*_):
            raise RuntimeError("engine fault")

        monkeypatch.setattr(type(breaker._engine.state), "on_failure", broken)
        with pytest.raises(RuntimeError, match="engine fault"):
            fail(breaker)


class TestEngine:
    def test_pybreaker_is_imported_in_one_module(self):
        """
        A change of pybreaker's is a change in one place of ours.
        """

        assert ["resilience/breaker.py"] == importers_of("pybreaker")


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


class BreakerMachine(RuleBasedStateMachine):
    """The breaker against a model of it: any order of calls, verdicts, waits and resets."""

    permits = Bundle("permits")

    def __init__(self):
        super().__init__()
        self.clock = VirtualClock(0.0)
        self.config = CircuitBreakerConfig(
            failure_threshold=2, cooldown=10.0, success_threshold=2, half_open_max_calls=2
        )
        self.told = []
        self.breaker = CircuitBreaker(
            "model", self.config, clock=self.clock, on_change=lambda old, new, *_: self.told.append((old, new))
        )
        self.state, self.period, self.opened_at = CLOSED, 0, None
        self.failures = self.successes = 0
        self.trials = set()
        self.changes = []
        self.admitted = 0

    def become(self, state):
        self.changes.append((self.state, state))
        self.state = state
        self.period += 1
        self.trials = set()
        self.successes = 0
        if state is OPEN:
            self.opened_at = self.clock.monotonic()
        if state is CLOSED:
            self.failures = 0

    @rule(target=permits)
    def ask(self):
        if self.state is OPEN and self.clock.monotonic() - self.opened_at >= self.config.cooldown:
            self.become(HALF_OPEN)
        admitted = self.state is CLOSED or (
            self.state is HALF_OPEN and len(self.trials) < self.config.half_open_max_calls
        )
        if not admitted:
            with pytest.raises(CircuitBreakerOpen):
                self.breaker.acquire()
            return multiple()
        self.admitted += 1
        if self.state is HALF_OPEN:
            self.trials.add(self.admitted)
        return self.admitted, self.period, self.breaker.acquire()

    @rule(held=consumes(permits), verdict=st.sampled_from(["success", "failure", "nothing"]))
    def settle(self, held, verdict):
        number, period, permit = held
        if verdict == "success":
            self.breaker.record_success(permit)
        elif verdict == "failure":
            self.breaker.record_failure(permit)
        else:
            self.breaker.release(permit)
        if period != self.period:
            return
        self.trials.discard(number)
        if verdict == "success":
            self.failures = 0
            self.successes += 1
            if self.state is HALF_OPEN and self.successes == self.config.success_threshold:
                self.become(CLOSED)
        elif verdict == "failure":
            self.failures += 1
            if self.state is HALF_OPEN or self.failures == self.config.failure_threshold:
                self.become(OPEN)

    @rule(seconds=st.sampled_from([10.0, 4.0, 1.0]))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @rule()
    def reset(self):
        self.breaker.reset()
        self.failures = 0
        if self.state is not CLOSED:
            self.become(CLOSED)

    @invariant()
    def agrees_with_the_model(self):
        left = 0.0
        if self.state is OPEN:
            left = max(0.0, self.opened_at + self.config.cooldown - self.clock.monotonic())

        assert (self.state, self.failures, left) == (
            self.breaker.state,
            self.breaker.failures,
            self.breaker.retry_after(),
        )
        assert self.changes == self.told


TestBreakerAgainstItsModel = BreakerMachine.TestCase
TestBreakerAgainstItsModel.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
