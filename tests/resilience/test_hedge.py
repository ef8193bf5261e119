import asyncio
import contextvars
import dataclasses
import gc
import threading
import weakref
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import LoopClock, run_virtual

from pixel_llm.errors import (
    APIError,
    CircuitBreakerOpen,
    ConnectionError,
    ErrorCode,
    LimitExceeded,
    TimeoutError,
    ValidationError,
)
from pixel_llm.events import (
    AbandonedThreadEnded,
    AttemptFailed,
    CallRefused,
    HedgeSent,
    HedgeSkipped,
    HedgeWon,
    ThreadAbandoned,
)
from pixel_llm.lm_studio import ChatRequest, LMStudioClient
from pixel_llm.policy import (
    BulkheadConfig,
    CacheConfig,
    ChaosConfig,
    ChaosDelay,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    HedgeConfig,
    Jitter,
    PolicyConfig,
    RateLimitConfig,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
)
from pixel_llm.policy.bounds import compute_bounds
from pixel_llm.policy.sections.matching import ErrorMatcher
from pixel_llm.resilience import CircuitState, Stack, current_limits, guard
from pixel_llm.resilience.clock import EndableClock
from pixel_llm.resilience.hedging.delays import Hedging
from pixel_llm.resilience.hedging.hedged_async import HedgedAsyncRoad
from pixel_llm.resilience.hedging.race import Race
from pixel_llm.resilience.roads.options import GuardOptions
from pixel_llm.resilience.threads.job import Job
from pixel_llm.testing import Answer, Hang, ScriptedLMStudio, VirtualClock

GONE = ConnectionError("gone", error_code=ErrorCode.ERR_CONN_REFUSED)
IMMEDIATE = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=2)


def until(predicate):
    """Wait, without sleeping, until *predicate* holds."""
    event = threading.Event()
    return any(predicate() or event.wait(0.005) for _ in range(2000))


def of(events, *kinds):
    return [event for event in events if type(event) in kinds]


# The async world: in virtual time


class Server:
    """
    What each attempt meets: it takes so many seconds, then gives its number, or raises an error.

    Attributes:
        under_way: Attempts that have begun and not ended.
        most: The most that were under way at once.
        cancelled: Attempts that were cancelled, by their number.
    """

    def __init__(self, *steps):
        self.steps = steps
        self.calls = self.under_way = self.most = 0
        self.cancelled = []

    async def __call__(self):
        number = self.calls
        self.calls += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            step = self.steps[min(number, len(self.steps) - 1)]
            seconds, error = step if isinstance(step, tuple) else (step, None)
            await asyncio.sleep(seconds)
            if error is not None:
                raise error
            return number + 1
        except asyncio.CancelledError:
            self.cancelled.append(number + 1)
            raise
        finally:
            self.under_way -= 1


class Play:
    """One call, or several, of a hedged stack in virtual time."""

    def __init__(self, *steps, options=None, **layers):
        layers.setdefault("hedge", HedgeConfig(delay=1.0))
        self.clock, self.events = LoopClock(1000.0), []
        self.stack = Stack("shop.pay", TargetPolicy(**layers), clock=self.clock, emit=self.events.append)
        self.server = Server(*steps)
        self.guarded = guard(self.stack, self.server, **(options or {}))

    def run(self, main=None):
        """What *main*, by default one call's outcome, gives; nothing may be left of it."""

        async def watched():
            try:
                return await (main() if main is not None else self.guarded.outcome())
            finally:
                assert asyncio.all_tasks() == {asyncio.current_task()}
                assert 0 == self.server.under_way

        return run_virtual(self.clock, watched())

    def fail(self):
        """The error that one call raises."""
        with pytest.raises(Exception) as caught:
            self.run()
        return caught.value

    @property
    def elapsed(self):
        return self.clock.monotonic() - 1000.0


class TestAsync:
    def test_quick_attempt_is_alone(self):
        """
        Nothing is sent beside an attempt that ends within the delay.
        """
        play = Play(0.9)

        assert (1, 1) == (play.run().value, play.server.calls)
        assert [] == play.events

    def test_first_success_wins(self):
        """
        When the second attempt is quicker it gives the value, and the first is cancelled.
        """
        play = Play(10.0, 0.5)
        outcome = play.run()

        assert (2, "call", False, 2) == (outcome.value, outcome.served_by, outcome.degraded, outcome.attempts)
        assert 1.5 == outcome.elapsed == play.elapsed
        assert [1] == play.server.cancelled
        assert [HedgeSent("shop.pay", 2, 1.0), HedgeWon("shop.pay", 2, 1.5)] == play.events

    def test_the_first_may_win_after_all(self):
        """
        When the first attempt is quicker the second one is cancelled.
        """
        play = Play(1.2, 5.0)

        assert (1, 1.2) == (play.run().value, pytest.approx(play.elapsed))
        assert [2] == play.server.cancelled
        assert [HedgeSent("shop.pay", 2, 1.0)] == play.events

    @pytest.mark.parametrize(("hedges", "calls", "elapsed"), [(1, 2, 11.0), (2, 3, 2.5), (3, 3, 2.5)])
    def test_several_are_sent_one_after_the_other(self, hedges, calls, elapsed):
        """
        Each delay sends another attempt, at most max_hedges of them.
        """
        play = Play(20.0, 10.0, 0.5, hedge=HedgeConfig(delay=1.0, max_hedges=hedges))
        play.run()

        assert (calls, calls, elapsed) == (play.server.calls, play.server.most, play.elapsed)

    def test_failure_before_the_delay_is_the_round_s(self):
        """
        An attempt that fails before another one was sent is retried as ever, not hedged.
        """
        play = Play((0.5, GONE), 0.1, retry=IMMEDIATE)

        assert (2, 2, 0.6) == (play.run().value, play.server.calls, pytest.approx(play.elapsed))
        assert [] == of(play.events, HedgeSent)

    def test_a_failure_beside_another_attempt_is_waited_out(self):
        """
        While another attempt is under way a failure is reported, but it is not the round's.
        """
        play = Play((2.0, GONE), 3.0)

        assert (2, 4.0) == (play.run().value, play.elapsed)
        assert [(1, 2.0)] == [(event.attempt, event.elapsed) for event in of(play.events, AttemptFailed)]

    def test_no_other_one_is_sent_after_all_have_failed(self):
        """
        When all that were sent have failed the round is over, though more could be sent.
        """
        play = Play((1.5, GONE), (0.2, GONE), hedge=HedgeConfig(delay=1.0, max_hedges=3))
        error = play.fail()

        assert (2, 1.5) == (play.server.calls, play.elapsed)
        assert error is GONE

    def test_all_fail(self):
        """
        The last failure is the call's; its history has all of them, in the order they failed.
        """
        last = ConnectionError("last")
        play = Play((3.0, last), (0.5, GONE))
        error = play.fail()

        assert error is last
        assert (2, 3.0) == (error.attempts, play.elapsed)
        assert [(2, "gone", 0.5), (1, "last", 3.0)] == [
            (record.number, record.error, record.elapsed) for record in error.history
        ] or [(2, "gone"), (2, "last")] == [(record.number, record.error) for record in error.history]

    def test_each_round_of_retries_is_hedged(self):
        """
        A retry begins a round of its own; attempts counts every call of the callable.
        """
        play = Play((2.0, GONE), (0.5, GONE), 9.0, 0.5, retry=IMMEDIATE)
        outcome = play.run()

        assert (4, 4, 2) == (outcome.value, outcome.attempts, play.server.most)
        assert 3.5 == outcome.elapsed

    def test_a_permanent_error_is_the_answer_to_all(self):
        """
        A wrong key is wrong for every attempt: nobody waits for the others.
        """
        wrong = APIError("no", error_code=ErrorCode.ERR_API_UNAUTHORIZED)
        play = Play(60.0, (0.5, wrong))

        assert play.fail() is wrong
        assert (1.5, [1]) == (play.elapsed, play.server.cancelled)

    def test_success_goes_before_a_failure_of_the_same_moment(self):
        """
        Of two attempts that end at the same moment the one that succeeded counts.
        """
        wrong = APIError("no", error_code=ErrorCode.ERR_API_UNAUTHORIZED)
        play = Play((2.0, wrong), 1.0)

        assert 2 == play.run().value

    def test_each_attempt_has_its_own_timeout(self):
        """
        The first attempt's timeout doesn't end the second one, which has its own from its beginning.
        """
        play = Play(60.0, 4.5, timeout=TimeoutConfig(attempt=5.0))

        assert (2, 5.5) == (play.run().value, play.elapsed)

    def test_the_deadline_ends_all(self):
        """
        The deadline is everybody's.
        """
        play = Play(60.0, deadline=5.0)
        error = play.fail()

        assert ErrorCode.ERR_TIMEOUT_DEADLINE is error.error_code
        assert (5.0, 2) == (play.elapsed, play.server.calls)

    def test_not_when_the_attempt_ends(self):
        """
        Nothing is sent at the moment at which the timeout ends the attempt: it would stand alone.
        """
        play = Play(60.0, timeout=TimeoutConfig(attempt=1.0))
        play.fail()

        assert (1, 1.0) == (play.server.calls, play.elapsed)

    @pytest.mark.parametrize("deadline", [0.5, 1.0])
    def test_not_without_room_in_the_deadline(self, deadline):
        """
        Nothing is sent that the deadline would end at once.
        """
        play = Play(60.0, deadline=deadline)
        play.fail()

        assert 1 == play.server.calls

    def test_cancelling_the_caller_cancels_all(self):
        """
        When the caller is cancelled every attempt is, and none is left.
        """
        play = Play(60.0, hedge=HedgeConfig(delay=1.0, max_hedges=3))

        async def main():
            task = asyncio.create_task(play.guarded())
            await asyncio.sleep(2.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        play.run(main)

        assert [1, 2, 3] == sorted(play.server.cancelled)
        assert 2.5 == play.elapsed

    def test_cancelled_before_the_first_step(self):
        """
        An attempt that is cancelled before it has begun gives its permit back, and is not counted.
        """
        play = Play(1.0, circuit_breaker=CircuitBreakerConfig(failure_threshold=1, success_threshold=1))
        breaker, road = play.stack.breaker, HedgedAsyncRoad(play.stack, play.server, GuardOptions(), play.stack.hedging)

        async def main():
            breaker.record_failure(breaker.acquire(), GONE)
            await asyncio.sleep(60.0)
            call = play.stack.begin((), {}, None, play.clock.monotonic())
            race, running = Race(play.stack, call, play.stack.hedging, play.stack.enter_at_once), {}
            road._begin(race, race.primary(play.stack.enter(call)), running)
            await road._end(running)
            return call.attempts, await play.guarded()

        assert (0, 1) == play.run(main)
        assert (1, CircuitState.CLOSED) == (play.server.calls, breaker.state)

    def test_sent_in_the_moment_in_which_the_first_ends(self):
        """
        Another attempt whose task never took its first step was not sent, whatever had admitted it.
        """
        play = Play(1.0, bulkhead=BulkheadConfig(max_concurrent=2))
        road = HedgedAsyncRoad(play.stack, play.server, GuardOptions(), play.stack.hedging)

        async def main():
            call = play.stack.begin((), {}, None, play.clock.monotonic())
            race, running = Race(play.stack, call, play.stack.hedging, play.stack.enter_at_once), {}
            road._begin(race, race.primary(play.stack.enter(call)), running)
            await asyncio.sleep(1.0)
            road._begin(race, race.send_another(), running)
            await road._end(running)
            return call.attempts, play.stack.admission.bulkhead.in_use

        assert (1, 0) == play.run(main)
        assert (1, []) == (play.server.calls, of(play.events, HedgeSent))

    def test_losers_are_waited_for(self):
        """
        A loser that takes its time to clean up ends before the call does; cancelling again reaches it again.
        """
        play = Play(0.0)
        cleaned = []

        async def slow():
            number = len(cleaned) if cleaned else play.server.calls
            play.server.calls += 1
            if number:
                return "quick"
            try:
                await asyncio.sleep(60)
            finally:
                try:
                    await asyncio.sleep(3)
                finally:
                    cleaned.append(play.clock.monotonic() - 1000.0)

        guarded = guard(play.stack, slow)

        async def main():
            return await guarded()

        assert ("quick", [4.0]) == (play.run(main), cleaned)

    def test_cancelled_while_losers_are_waited_for(self):
        """
        A caller that is cancelled while it waits for losers is cancelled, and none is left.
        """
        play = Play(0.0)

        async def slow():
            play.server.calls += 1
            if play.server.calls > 1:
                return "quick"
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(3)

        guarded = guard(play.stack, slow)

        async def main():
            task = asyncio.create_task(guarded())
            await asyncio.sleep(2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        play.run(main)

        assert 2.0 == play.elapsed

    def test_a_loser_that_fails_while_it_is_cancelled_is_nobody_s_business(self, caplog):
        """
        What a loser raises in place of its cancellation reaches nobody, not even asyncio's log.
        """
        play = Play(0.0)

        async def stubborn():
            play.server.calls += 1
            if play.server.calls > 1:
                return "quick"
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise ConnectionError("cancelled") from None

        guarded = guard(play.stack, stubborn)

        async def main():
            return await guarded()

        assert "quick" == play.run(main)
        gc.collect()
        assert [] == caplog.records

    def test_a_function_that_cancels_itself(self):
        """
        CancelledError that a function raises by itself is the caller's, as without hedges.
        """

        async def cancels():
            raise asyncio.CancelledError

        play = Play(0.0)
        with pytest.raises(asyncio.CancelledError):
            play.run(guard(play.stack, cancels))

    def test_a_cancelled_loser_is_neutral(self):
        """
        The breaker neither counts a loser nor keeps its permit.
        """
        play = Play(60.0, 0.5, circuit_breaker=CircuitBreakerConfig(failure_threshold=1))
        for _ in range(3):
            play.server.calls = 0
            play.run()

        assert (CircuitState.CLOSED, 0) == (play.stack.breaker.state, play.stack.breaker.failures)

    def test_each_failure_counts(self):
        """
        Every attempt passes the breaker by itself, and is counted by itself.
        """
        play = Play((2.0, GONE), (1.5, GONE), circuit_breaker=CircuitBreakerConfig(failure_threshold=2))
        play.fail()

        assert CircuitState.OPEN is play.stack.breaker.state

    def test_what_would_be_refused_is_not_sent(self):
        """
        A half-open breaker lets one trial in: the attempt beside it is not sent, and the trial goes on.
        """
        play = Play(
            3.0,
            hedge=HedgeConfig(delay=1.0, max_hedges=5),
            circuit_breaker=CircuitBreakerConfig(failure_threshold=1, success_threshold=1, half_open_max_calls=1),
        )
        breaker = play.stack.breaker
        breaker.record_failure(breaker.acquire(), GONE)
        play.clock.advance(60)
        outcome = play.run()

        assert (1, 1, 1) == (outcome.value, outcome.attempts, play.server.calls)
        skipped = HedgeSkipped("shop.pay", "circuit_breaker", ErrorCode.ERR_CB_HALF_OPEN)
        assert [skipped] * 2 == of(play.events, HedgeSkipped)
        assert [] == of(play.events, CallRefused)

    def test_what_would_have_to_wait_is_not_sent(self):
        """
        A full bulkhead lets no other attempt in beside the first, and none queues.
        """
        bulkhead = BulkheadConfig(max_concurrent=2, max_waiting=5)
        play = Play(4.0, hedge=HedgeConfig(delay=1.0, max_hedges=3), bulkhead=bulkhead)
        play.run()

        assert (2, 2) == (play.server.calls, play.server.most)
        assert [HedgeSkipped("shop.pay", "queue", None)] * 2 == of(play.events, HedgeSkipped)
        assert 0 == play.stack.admission.bulkhead.in_use

    def test_each_attempt_takes_from_the_rate(self):
        """
        Every attempt counts for the rate limit.
        """
        rate_limit = RateLimitConfig(max_calls=2, period=60.0)
        play = Play(4.0, hedge=HedgeConfig(delay=1.0, max_hedges=3), rate_limit=rate_limit)
        play.run()

        assert 2 == play.server.calls
        assert 2 == len(of(play.events, HedgeSkipped))

    def test_the_first_may_be_refused(self):
        """
        A round whose first attempt is refused is refused as ever.
        """
        play = Play(1.0, circuit_breaker=CircuitBreakerConfig(failure_threshold=1))
        play.stack.breaker.record_failure(play.stack.breaker.acquire(), GONE)

        assert isinstance(play.fail(), CircuitBreakerOpen)
        assert 0 == play.server.calls

    def test_keeps_results(self):
        """
        The winner's result is kept for the fallback, under the call's key.
        """
        fallback = (FallbackStep(FallbackStrategy.CACHE, cache=CacheConfig()),)
        play = Play(5.0, 0.5, (0.1, GONE), fallback=fallback, options={"key": lambda: "key"})

        assert ("call", 2) == ((outcome := play.run()).served_by, outcome.value)
        assert ("cache", 2) == ((outcome := play.run()).served_by, outcome.value)

    def test_errors_die(self):
        """
        No cycle keeps a call's error alive, nor one that nobody got.
        """
        references = []

        async def fails():
            await asyncio.sleep(2.0)
            error = ConnectionError("gone")
            references.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

        play = Play(0.0)
        guarded = guard(play.stack, fails)

        async def main():
            with pytest.raises(ConnectionError):
                await guarded()

        gc.disable()
        try:
            play.run(main)

            assert [None, None] == [reference() for reference in references]
        finally:
            gc.enable()


STEPS = st.one_of(
    st.floats(0.0, 6.0).map(lambda seconds: round(seconds, 2)),
    st.tuples(st.floats(0.0, 6.0).map(lambda seconds: round(seconds, 2)), st.builds(ConnectionError, st.just("gone"))),
    st.tuples(
        st.floats(0.0, 6.0).map(lambda seconds: round(seconds, 2)),
        st.builds(APIError, st.just("no"), error_code=st.just(ErrorCode.ERR_API_UNAUTHORIZED)),
    ),
)


class TestSchedules:
    @settings(max_examples=300, deadline=None)
    @given(
        steps=st.lists(STEPS, min_size=1, max_size=8),
        delay=st.sampled_from([0.5, 1.0, 2.0]),
        hedges=st.integers(1, 3),
        attempts=st.integers(1, 3),
        timeout=st.sampled_from([None, 1.5, 3.0]),
        deadline=st.sampled_from([None, 4.0, 10.0]),
        cancel=st.sampled_from([None, None, 0.0, 0.5, 1.0, 3.3]),
        callers=st.integers(1, 3),
        slots=st.sampled_from([None, 1, 3]),
    )
    def test_what_must_hold(self, steps, delay, hedges, attempts, timeout, deadline, cancel, callers, slots):
        """
        Whatever happens: never more attempts at once than allowed, none left, and every permit given back.
        """
        layers = {"retry": RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=attempts)} if attempts > 1 else {}
        play = Play(
            *steps,
            hedge=HedgeConfig(delay=delay, max_hedges=hedges),
            timeout=TimeoutConfig(attempt=timeout) if timeout else None,
            deadline=deadline,
            circuit_breaker=CircuitBreakerConfig(failure_threshold=3, half_open_max_calls=2, cooldown=1.0),
            bulkhead=BulkheadConfig(max_concurrent=slots) if slots else None,
            **layers,
        )
        ends, made = [], []

        async def one():
            started = play.clock.monotonic()
            try:
                made.append((await play.guarded.outcome()).attempts)
            except (ConnectionError, APIError, TimeoutError, CircuitBreakerOpen, LimitExceeded) as error:
                made.append(error.attempts or 0)
            finally:
                ends.append(play.clock.monotonic() - started)

        async def main():
            tasks = [asyncio.create_task(one()) for _ in range(callers)]
            if cancel is not None:
                await asyncio.sleep(cancel)
                tasks[0].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for task in tasks:
                if not task.cancelled() and task.exception() is not None:
                    raise task.exception()

        play.run(main)

        assert max(made, default=0) <= attempts * (1 + hedges)
        assert play.server.most <= min(callers * (1 + hedges), slots or inf)
        assert not slots or play.stack.admission.bulkhead.in_use == 0
        assert deadline is None or max(ends, default=0.0) <= deadline + 1e-6
        if play.stack.breaker.state is not CircuitState.CLOSED:
            play.clock.advance(1.0)
            permits = [play.stack.breaker.acquire() for _ in range(2)]
            with pytest.raises(CircuitBreakerOpen):
                play.stack.breaker.acquire()

            assert 2 == len(permits)


class TestBounds:
    @settings(max_examples=200, deadline=None)
    @given(
        steps=st.lists(STEPS, min_size=1, max_size=8),
        delay=st.sampled_from([0.5, 1.0, 2.0, 3.0]),
        hedges=st.integers(1, 3),
        attempts=st.integers(1, 3),
        timeout=st.sampled_from([1.5, 3.0]),
        deadline=st.sampled_from([None, 2.0, 4.0, 10.0]),
    )
    def test_hold(self, steps, delay, hedges, attempts, timeout, deadline):
        """
        No call takes longer, or makes more attempts, than `explain` says.
        """
        layers = {"retry": RetryConfig(max_attempts=attempts, jitter=Jitter.NONE)} if attempts > 1 else {}
        hedge = HedgeConfig(delay=delay, max_hedges=hedges)
        play = Play(*steps, hedge=hedge, timeout=TimeoutConfig(attempt=timeout), deadline=deadline, **layers)
        bounds = compute_bounds(PolicyConfig(version=1, targets={"shop.pay": play.stack.policy}), "shop.pay")
        try:
            made = play.run().attempts
        except (ConnectionError, APIError, TimeoutError) as error:
            made = error.attempts

        assert made <= bounds.worst_attempts == bounds.worst_upstream_calls
        assert play.elapsed <= bounds.worst_latency + 1e-6

    @pytest.mark.parametrize(
        ("layers", "attempts", "latency"),
        [
            ({}, 3, None),
            ({"deadline": 2.5}, 3, 2.5),
            ({"deadline": 2.0}, 2, 2.0),
            ({"deadline": 1.0}, 1, 1.0),
            ({"timeout": TimeoutConfig(attempt=5.0)}, 3, 7.0),
            ({"timeout": TimeoutConfig(attempt=1.0)}, 1, 1.0),
            ({"timeout": TimeoutConfig(attempt=5.0), "retry": IMMEDIATE}, 6, 7.0 + 60.0 + 7.0),
            ({"hedge": HedgeConfig(quantile=0.9), "timeout": TimeoutConfig(attempt=5.0)}, 2, 10.0),
            (
                {"hedge": HedgeConfig(quantile=0.9, max_delay=2.0), "timeout": TimeoutConfig(attempt=5.0)},
                2,
                7.0,
            ),
        ],
    )
    def test_in_numbers(self, layers, attempts, latency):
        """
        Each hedge begins while the attempt before it is under way, and lasts as long as an attempt can.
        """
        policy = TargetPolicy(**{"hedge": HedgeConfig(delay=1.0, max_hedges=2), "idempotent": True, **layers})
        bounds = compute_bounds(PolicyConfig(version=1, targets={"shop.pay": policy}), "shop.pay")

        assert (attempts, latency) == (bounds.worst_attempts, bounds.worst_latency)

    def test_are_reached(self):
        """
        A server that is silent has every attempt made, and every one lasts its timeout.
        """
        play = Play(
            60.0,
            hedge=HedgeConfig(delay=1.0, max_hedges=2),
            timeout=TimeoutConfig(attempt=5.0),
            retry=dataclasses.replace(IMMEDIATE, retry_on=ErrorMatcher.of("ERR_TIMEOUT_REQUEST")),
            idempotent=True,
        )
        bounds = compute_bounds(PolicyConfig(version=1, targets={"shop.pay": play.stack.policy}), "shop.pay")

        assert bounds.worst_attempts == play.fail().attempts
        assert bounds.worst_latency == play.elapsed


# The sync world: real threads, which wait for events of the case


class Threads:
    """What each attempt does, by its number; *release* lets go of those that hang."""

    def __init__(self, *steps):
        self.steps = steps
        self.release = threading.Event()
        self.lock = threading.Lock()
        self.calls = self.under_way = self.most = 0
        self.limits = []

    def __call__(self):
        with self.lock:
            number = self.calls
            self.calls += 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            step = self.steps[min(number, len(self.steps) - 1)]
            if step == "hang":
                self.release.wait(10)
                return "late"
            if step == "until ended":
                limits = current_limits()
                while limits.remaining() != 0:
                    self.release.wait(0.001)
                raise TimeoutError("ended")
            if isinstance(step, BaseException):
                raise step
            return step() if callable(step) else step
        finally:
            with self.lock:
                self.under_way -= 1


@pytest.fixture
def hedged(make_stack):
    """Puts a stack with a hedge around what attempts do, in the sync world."""
    made = []

    def hedged(*steps, cooperative=False, delay=1.0, max_hedges=1, key=None, **layers):
        threads = Threads(*steps)
        made.append(threads)
        stack = make_stack(hedge=HedgeConfig(delay=delay, max_hedges=max_hedges), **layers)
        return stack, guard(stack, threads, cooperative=cooperative, key=key), threads

    yield hedged
    for threads in made:
        threads.release.set()


class TestSync:
    def test_quick_attempt_is_alone(self, hedged, events):
        """
        Nothing is sent beside an attempt that ends within the delay.
        """
        _, guarded, threads = hedged("value")

        assert ("value", 1) == (guarded(), threads.calls)
        assert [] == events

    def test_first_success_wins(self, hedged, events, clock):
        """
        When the second attempt is quicker it gives the value; the first runs on, and counts as abandoned.
        """
        stack, guarded, threads = hedged("hang", "value", delay=1e-9)
        clock.patience = lambda seconds: clock.advance(0.01) or 0.001
        outcome = guarded.outcome()

        assert ("value", 2) == (outcome.value, outcome.attempts)
        assert 1 == stack.abandoned_threads.count
        assert [HedgeSent, HedgeWon, ThreadAbandoned] == [type(event) for event in events]

        threads.release.set()

        assert until(lambda: stack.abandoned_threads.count == 0)
        assert until(lambda: of(events, AbandonedThreadEnded))

    @pytest.fixture
    def ticking(self, clock):
        """The clock moves on while the caller waits, and only then."""
        clock.patience = lambda seconds: clock.advance(0.25) or 0.002
        return clock

    def test_a_cooperative_loser_ends(self, hedged, ticking):
        """
        The limits of a loser are ended, so a function that reads them ends; it is not abandoned.
        """
        stack, guarded, threads = hedged("until ended", "value", cooperative=True)

        assert "value" == guarded()
        assert until(lambda: threads.under_way == 0)
        assert not threads.release.is_set()
        assert 0 == stack.abandoned_threads.count

    def test_what_a_cooperative_loser_calls_ends(self, hedged, ticking, make_stack):
        """
        What a loser calls ends with it, and the breaker in there is neutral to that.
        """
        inner = make_stack("shop.ask", circuit_breaker=CircuitBreakerConfig(failure_threshold=1), deadline=1e6)

        def until_ended():
            limits = current_limits()
            while limits.remaining():
                threads.release.wait(0.001)
            raise TimeoutError("ended")

        ask = guard(inner, until_ended, cooperative=True)
        _, guarded, threads = hedged(ask, "value", cooperative=True)

        assert "value" == guarded()
        assert until(lambda: threads.under_way == 0)
        assert not threads.release.is_set()
        assert CircuitState.CLOSED is inner.breaker.state

    def test_a_loser_at_a_real_socket_ends(self):
        """
        The LM Studio client sees within moments that nobody waits for its answer any longer.
        """
        ended = threading.Event()
        with ScriptedLMStudio([Hang(), Answer(text="A cat.")]) as server:
            client = LMStudioClient(server.base_url)
            policy = TargetPolicy(hedge=HedgeConfig(delay=0.05), timeout=TimeoutConfig(attempt=60.0))

            def chat(request):
                try:
                    return client.chat(request)
                except TimeoutError:
                    ended.set()
                    raise

            guarded = guard(Stack("lm_studio.chat", policy), chat, cooperative=True)

            assert "A cat." == guarded(ChatRequest(model="any", prompt="What is it?")).text
            assert ended.wait(10)

            client.close()

    def test_waits_for_a_cooperative_attempt(self, hedged, ticking):
        """
        A function that minds its limits is not left when the time is up: it knows by itself.
        """

        def slow():
            threads.release.wait(0.05)
            return "by itself"

        _, guarded, threads = hedged(slow, cooperative=True, delay=1000.0, timeout=TimeoutConfig(attempt=1.0))

        assert "by itself" == guarded()

    def test_timeout(self, hedged, ticking, events):
        """
        Each attempt has its own timeout; when all have passed, the call has failed.
        """
        stack, guarded, threads = hedged("hang", timeout=TimeoutConfig(attempt=3.0))
        with pytest.raises(TimeoutError) as caught:
            guarded()

        assert ErrorCode.ERR_TIMEOUT_REQUEST is caught.value.error_code
        assert (2, 2, 2) == (threads.calls, caught.value.attempts, stack.abandoned_threads.count)
        assert 2 == len(of(events, AttemptFailed))

    def test_one_that_was_left_ends_while_another_is_under_way(self, hedged, ticking):
        """
        What comes of an attempt that was left reaches nobody, though the call goes on.
        """

        def value():
            until(lambda: stack.abandoned_threads.count == 1)
            threads.release.set()
            until(lambda: stack.abandoned_threads.count == 0)
            return "value"

        timeout = TimeoutConfig(attempt=100.0)
        stack, guarded, threads = hedged("hang", value, delay=99.0, timeout=timeout)

        assert "value" == guarded()

    def test_ends_while_it_is_being_left(self, hedged, ticking, monkeypatch):
        """
        A function that ends at the very moment its caller would leave has given its result in time.
        """

        def too_late(job, left_to, *, elapsed):
            threads.release.set()
            return False

        monkeypatch.setattr(Job, "abandon", too_late)
        _, guarded, threads = hedged("hang", delay=99.0, timeout=TimeoutConfig(attempt=1.0))

        assert "late" == guarded()

    def test_deadline(self, hedged, ticking):
        """
        As the function runs in a thread, its deadline ends the call even without a timeout.
        """
        _, guarded, _ = hedged("hang", deadline=3.0)
        with pytest.raises(TimeoutError) as caught:
            guarded()

        assert ErrorCode.ERR_TIMEOUT_DEADLINE is caught.value.error_code

    def test_all_fail(self, hedged, ticking):
        """
        The last failure is the call's, and its history has all of them.
        """

        def later():
            until(lambda: threads.calls == 2 and threads.under_way == 1)
            raise ConnectionError("last")

        _, guarded, threads = hedged(later, GONE)
        with pytest.raises(ConnectionError, match="last") as caught:
            guarded()

        assert 2 == caught.value.attempts
        assert ["gone", "last"] == [record.error for record in caught.value.history]

    def test_a_permanent_error_is_the_answer_to_all(self, hedged, ticking):
        """
        A wrong key is wrong for every attempt: nobody waits for the others.
        """
        wrong = APIError("no", error_code=ErrorCode.ERR_API_UNAUTHORIZED)
        _, guarded, threads = hedged("hang", wrong)
        with pytest.raises(APIError) as caught:
            guarded()

        assert caught.value is wrong
        assert 1 == threads.under_way

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_interruptions_pass(self, hedged, kind):
        """
        What is no Exception reaches the caller, uncounted.
        """
        stack, guarded, _ = hedged(kind(), circuit_breaker=CircuitBreakerConfig(failure_threshold=1))
        with pytest.raises(kind):
            guarded()

        assert CircuitState.CLOSED is stack.breaker.state

    def test_interrupted_while_it_waits(self, hedged, clock):
        """
        A caller that is interrupted leaves every attempt, and their permits are given back.
        """

        def interrupt(seconds):
            raise KeyboardInterrupt

        stack, guarded, _ = hedged("hang", deadline=5.0)
        clock.patience = interrupt
        with pytest.raises(KeyboardInterrupt):
            guarded()

        assert 1 == stack.abandoned_threads.count

    @pytest.mark.parametrize("delay", [1.0, 5.0], ids=["beside another one", "alone"])
    def test_the_deadline_cut_the_first_attempt_and_the_breaker_was_not_told(self, hedged, ticking, delay):
        """
        An attempt that had the target's whole deadline counts, one that was sent beside it does not: as in the async
        world.
        """
        stack, guarded, _ = hedged(
            "hang", "hang", delay=delay, deadline=2.0, circuit_breaker=CircuitBreakerConfig(failure_threshold=2)
        )
        with pytest.raises(TimeoutError):
            guarded()

        assert 1 == stack.breaker.failures

    def test_a_loser_is_neutral(self, hedged, ticking):
        """
        The breaker neither counts a loser nor keeps its permit, whatever comes of it.
        """

        def late():
            threads.release.wait(10)
            raise GONE

        stack, guarded, threads = hedged(late, "value", circuit_breaker=CircuitBreakerConfig(failure_threshold=1))

        assert "value" == guarded()

        threads.release.set()

        assert until(lambda: stack.abandoned_threads.count == 0)
        assert CircuitState.CLOSED is stack.breaker.state

    def test_successes_and_failures_count(self, hedged, ticking):
        """
        Every attempt passes the breaker by itself, and is counted by itself.
        """

        def later():
            until(lambda: threads.calls == 2 and threads.under_way == 1)
            raise GONE

        breaker = CircuitBreakerConfig(failure_threshold=2, success_threshold=1)
        stack, guarded, threads = hedged(later, GONE, "value", circuit_breaker=breaker)
        with pytest.raises(ConnectionError):
            guarded()

        assert CircuitState.OPEN is stack.breaker.state

        ticking.advance(60)

        assert "value" == guarded()
        assert CircuitState.CLOSED is stack.breaker.state

    def test_a_loser_keeps_its_slot(self, hedged, ticking):
        """
        A plain function that has lost keeps its slot of the bulkhead until it really ends.
        """
        stack, guarded, threads = hedged("hang", "value", bulkhead=BulkheadConfig(max_concurrent=2))
        bulkhead = stack.admission.bulkhead

        assert ("value", 1) == (guarded(), bulkhead.in_use)

        threads.release.set()

        assert until(lambda: bulkhead.in_use == 0)

    def test_slots_come_back(self, hedged, ticking):
        """
        Whether an attempt succeeds, fails, or runs out of time: its slot comes back when its thread has ended.
        """
        timeout = TimeoutConfig(attempt=3.0)
        stack, guarded, threads = hedged(
            "value", GONE, "hang", timeout=timeout, bulkhead=BulkheadConfig(max_concurrent=2)
        )
        guarded()
        for error in (ConnectionError, TimeoutError):
            with pytest.raises(error):
                guarded()
        threads.release.set()

        assert until(lambda: stack.admission.bulkhead.in_use == 0)

    def test_abandoned_threads_are_limited(self, hedged, ticking, events):
        """
        With too many threads running on nothing is sent beside an attempt; then calls are refused.
        """
        timeout = TimeoutConfig(max_abandoned_threads=1)
        _, guarded, threads = hedged("hang", "value", "value", timeout=timeout)

        assert "value" == guarded()

        with pytest.raises(LimitExceeded):
            guarded()

        assert 2 == threads.calls

        race_refused = [event.layer for event in of(events, HedgeSkipped, CallRefused)]

        assert ["timeout"] == race_refused

    def test_not_sent_while_too_many_run_on(self, hedged, ticking, events):
        """
        An attempt is not sent beside another one when too many threads run on by then.
        """

        def slow():
            stack.abandoned_threads.add(object())
            until(lambda: of(events, HedgeSkipped))
            return "value"

        stack, guarded, _ = hedged(slow, timeout=TimeoutConfig(max_abandoned_threads=1))

        assert "value" == guarded()
        assert [HedgeSkipped("shop.pay", "timeout", ErrorCode.ERR_LIMIT_BULKHEAD)] == of(events, HedgeSkipped)

    def test_runs_later_is_refused(self, hedged):
        """
        A function that returns code which is yet to run is refused as without hedges.
        """

        async def later():
            """Never awaited."""

        _, guarded, _ = hedged(later)
        with pytest.raises(ValidationError, match="would run unguarded"):
            guarded()

    def test_without_a_further_thread(self, hedged, monkeypatch):
        """
        Where the system has no further thread, that is the attempt's failure.
        """

        def no_thread(job, name, workers=None):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(Job, "start", no_thread)
        stack, guarded, _ = hedged("value", circuit_breaker=CircuitBreakerConfig(failure_threshold=1))
        with pytest.raises(RuntimeError):
            guarded()

        assert CircuitState.OPEN is stack.breaker.state

    def test_sees_the_context(self, hedged):
        """
        Attempts see the context variables of the caller, and their own limits.
        """
        variable = contextvars.ContextVar("variable")
        variable.set("caller's")
        _, guarded, _ = hedged(
            lambda: (variable.get(), round(current_limits().remaining(), 3)), timeout=TimeoutConfig(attempt=5.0)
        )

        assert ("caller's", 5.0) == guarded()

    def test_keeps_results(self, hedged):
        """
        The winner's result is kept for the fallback.
        """
        fallback = (FallbackStep(FallbackStrategy.CACHE, cache=CacheConfig()),)
        _, guarded, _ = hedged("value", GONE, fallback=fallback, key=lambda: "key")

        assert ["call", "cache"] == [guarded.outcome().served_by, guarded.outcome().served_by]

    def test_chaos_is_injected(self, hedged, ticking):
        """
        Chaos is inside: each attempt meets its own.
        """
        _, guarded, _ = hedged("value", chaos=ChaosConfig(delay=ChaosDelay(rate=1.0, duration=0.5)))

        assert "value" == guarded()

    @settings(max_examples=60, deadline=None)
    @given(
        steps=st.lists(st.sampled_from(["hang", "value", "gone", "wrong", "until ended"]), min_size=1, max_size=4),
        hedges=st.integers(1, 3),
        cooperative=st.booleans(),
    )
    def test_what_must_hold(self, steps, hedges, cooperative):
        """
        Whatever happens: never more attempts at once than allowed, and no thread is left when the functions have ended.
        """
        errors = {"gone": ConnectionError("gone"), "wrong": APIError(error_code=ErrorCode.ERR_API_UNAUTHORIZED)}
        # What minds its limits never hangs; what does not, never reads them.
        steps = [
            ("until ended" if cooperative else "hang") if step in ("hang", "until ended") else step for step in steps
        ]
        clock, events = VirtualClock(), []
        clock.patience = lambda seconds: clock.advance(0.25) or 0.001
        policy = TargetPolicy(
            hedge=HedgeConfig(delay=1.0, max_hedges=hedges),
            timeout=TimeoutConfig(attempt=3.0),
            circuit_breaker=CircuitBreakerConfig(failure_threshold=1, half_open_max_calls=1),
            bulkhead=BulkheadConfig(max_concurrent=8),
        )
        stack = Stack("shop.pay", policy, clock=clock, emit=events.append)
        threads = Threads(*(errors.get(step, step) for step in steps))
        guarded = guard(stack, threads, cooperative=cooperative)
        if cooperative:  # such a function has no caller that moves the clock while nothing else is to be waited for
            threads.release.wait = lambda seconds: clock.advance(0.1) or threading.Event().wait(seconds)
        try:
            value, attempts = guarded(), 1
        except (ConnectionError, APIError, TimeoutError) as error:
            value, attempts = "value", error.attempts
        finally:
            threads.release.set()

        assert ("value", True) == (value, attempts <= 1 + hedges)
        assert until(lambda: threads.under_way == 0)
        assert until(lambda: stack.abandoned_threads.count == 0)
        assert until(lambda: stack.admission.bulkhead.in_use == 0)
        assert threads.most <= 1 + hedges
        assert until(lambda: len(of(events, ThreadAbandoned)) == len(of(events, AbandonedThreadEnded)))


class TestDelay:
    def test_is_fixed(self, clock):
        """
        With `delay` it is that.
        """
        hedging = Hedging(HedgeConfig(delay=0.5), clock=clock)
        hedging.record(9.0)

        assert 0.5 == hedging.delay()

    def test_is_a_quantile_of_the_latest(self, clock):
        """
        With `quantile` it is what that share of the attempts took, once there are enough of them.
        """
        hedging = Hedging(HedgeConfig(quantile=0.9, min_samples=10), clock=clock)
        for number in range(10):
            assert inf == hedging.delay()

            hedging.record(0.1 if number < 9 else 30.0)

        assert inf == hedging.delay()  # it looks once a second

        clock.advance(1)

        assert 0.065 < hedging.delay() <= 0.132  # the bucket's bounds

    def test_forgets(self, clock):
        """
        What was long ago is forgotten: the delay follows a server that has become slower, or quicker.
        """
        hedging = Hedging(HedgeConfig(quantile=0.5, min_samples=10, min_delay=1e-6), clock=clock)
        seen = []
        for seconds in (0.001, 1.0, 0.001):
            for _ in range(3):
                for _ in range(10):
                    hedging.record(seconds)
                clock.advance(1)
                seen.append(hedging.delay())

        assert [True, False, True] == [delay < 0.01 for delay in seen[2::3]]

    @pytest.mark.parametrize(("took", "delay"), [(1e-5, 0.2), (100.0, 3.0)])
    def test_has_a_floor_and_a_ceiling(self, clock, took, delay):
        """
        It is never shorter than min_delay, nor longer than max_delay.
        """
        config = HedgeConfig(quantile=0.9, min_samples=10, min_delay=0.2, max_delay=3.0)
        hedging = Hedging(config, clock=clock)
        for _ in range(10):
            hedging.record(took)

        assert delay == hedging.delay()

    def test_in_a_stack(self):
        """
        Nothing is sent until enough attempts have succeeded; then what takes unusually long gets company.
        """
        play = Play(*[1.0] * 20, 60.0, 1.0, hedge=HedgeConfig(quantile=0.9, min_samples=20))

        async def main():
            for _ in range(20):
                await play.guarded()
            return await play.guarded.outcome()

        outcome = play.run(main)

        assert 2 == outcome.attempts
        assert 1.5 < outcome.elapsed < 3.1

    def test_is_not_shortened_by_hedging(self):
        """
        The share of attempts that get company stays what the quantile says, in the long run.
        """
        import random

        source = random.Random(7)
        play = Play(0.0, hedge=HedgeConfig(quantile=0.9, min_samples=100))

        async def answer():
            play.server.calls += 1
            await asyncio.sleep(source.lognormvariate(0.0, 1.0))

        guarded = guard(play.stack, answer)

        async def main():
            for _ in range(4000):
                await guarded()

        play.run(main)
        sent = len(of(play.events, HedgeSent))

        assert 0.05 < sent / 4000 < 0.2


class TestEndableClock:
    def test_shows_the_time_until_it_is_ended(self, clock):
        """
        It goes with its clock; ended, it is past every moment there is.
        """
        endable = EndableClock(clock)

        assert clock.monotonic() == endable.monotonic()

        endable.end()

        assert endable.monotonic() > clock.monotonic() + 1e100
        assert 5.0 - endable.monotonic() < 0 < inf - endable.monotonic()

    def test_has_little_patience(self):
        """
        Whoever waits by it looks often whether it was ended.
        """

        class Patient(VirtualClock):
            def patience(self, seconds):
                return seconds

        endable = EndableClock(Patient())

        assert (0.05, 0.01) == (endable.patience(60.0), endable.patience(0.01))


class TestReload:
    def test_goes_on(self, make_stack, clock):
        """
        A stack that takes another one's place knows its latencies and its abandoned threads.
        """
        layers = {"hedge": HedgeConfig(quantile=0.9), "timeout": TimeoutConfig(attempt=5.0)}
        before = make_stack(**layers)
        before.abandoned_threads.add(object())
        same = Stack("shop.pay", TargetPolicy(**layers), clock=clock, before=before)
        other = Stack("shop.pay", TargetPolicy(hedge=HedgeConfig(delay=1.0)), clock=clock, before=before)

        assert (before.hedging, before.abandoned_threads) == (same.hedging, same.abandoned_threads)
        assert other.hedging is not before.hedging
        assert 0 == other.abandoned_threads.count


class TestDescription:
    def test_stands_between_retry_and_breaker(self, make_stack):
        """
        ``describe`` shows the hedge at its place.
        """
        stack = make_stack(
            retry=IMMEDIATE, hedge=HedgeConfig(delay=1.0), circuit_breaker=CircuitBreakerConfig(), idempotent=True
        )

        assert ["retry", "hedge", "circuit_breaker", "call"] == [layer.name for layer in stack.describe()]

    def test_in_words(self):
        """
        ``explain`` says when how many are sent.
        """
        assert "1 more attempt beside one that takes longer than 500ms" == HedgeConfig(delay=0.5).in_words()
        assert (
            "2 more attempts beside one that takes longer than 95 % of the latest, 10ms to 1m, once 100 have succeeded"
        ) == HedgeConfig(quantile=0.95, max_hedges=2).in_words()
