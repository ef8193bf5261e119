import pytest

from pixel_llm.errors import (
    APIError,
    CircuitBreakerOpen,
    ConnectionError,
    ErrorCode,
    LimitExceeded,
    RetryExhausted,
    ValidationError,
)
from pixel_llm.events import FallbackServed, FallbackSkipped
from pixel_llm.policy import (
    CacheConfig,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    Jitter,
    RetryConfig,
    RetryStrategy,
)
from pixel_llm.resilience import SkippedStep, guard
from pixel_llm.resilience.fallbacks.chain import FallbackChain

RAISE, NONE = FallbackStep(FallbackStrategy.RAISE), FallbackStep(FallbackStrategy.NONE)
LOST = ErrorCode.ERR_CONN_LOST


def value(value):
    return FallbackStep(FallbackStrategy.DEFAULT_VALUE, value=value)


def cache(ttl=60.0, max_entries=10):
    return FallbackStep(FallbackStrategy.CACHE, cache=CacheConfig(ttl=ttl, max_entries=max_entries))


def gone():
    return ConnectionError("gone", error_code=LOST)


def unauthorized():
    return APIError("no", error_code=ErrorCode.ERR_API_UNAUTHORIZED)


KEY = {"key": lambda *args: args}


class TestOrder:
    @pytest.mark.parametrize(
        ("steps", "served_by", "expected"),
        [
            ((value("sorry"), NONE), "default_value", "sorry"),
            ((NONE, value("sorry")), "none", None),
            ((value("sorry"), RAISE), "default_value", "sorry"),
            ((value(None),), "default_value", None),
            ((cache(), value("sorry")), "default_value", "sorry"),
        ],
    )
    def test_the_first_that_can_serves(self, both_worlds, steps, served_by, expected):
        """
        Steps are tried in order, until one serves.
        """
        outcome = both_worlds(gone(), fallback=steps, options=dict(KEY)).outcome()

        assert (expected, served_by, True) == (outcome.value, outcome.served_by, outcome.degraded)

    @pytest.mark.parametrize("steps", [(RAISE,), (RAISE, value("sorry")), (cache(), RAISE, value("sorry")), (cache(),)])
    def test_raise_ends_the_chain(self, both_worlds, steps):
        """
        ``raise`` raises the call's own error, whatever comes after; so does a chain that is at its end.
        """
        error = gone()
        with pytest.raises(ConnectionError) as caught:
            both_worlds(error, fallback=steps, options=dict(KEY))()

        assert error is caught.value
        assert 1 == error.attempts

    def test_success_needs_none(self, both_worlds):
        """
        A call that succeeds is not degraded.
        """
        outcome = both_worlds("paid", fallback=(value("sorry"),)).outcome()

        assert ("paid", "call", False) == (outcome.value, outcome.served_by, outcome.degraded)

    def test_stands_outside_of_the_retries(self, both_worlds, clock):
        """
        All attempts are made before anything else serves.
        """
        retry = RetryConfig(strategy=RetryStrategy.FIXED_DELAY, initial_delay=1.0, jitter=Jitter.NONE)
        call = both_worlds(gone(), retry=retry, fallback=(value("sorry"),))

        assert "sorry" == call()
        assert (3, [1.0, 1.0]) == (call.calls, clock.sleeps)


class TestWhichErrors:
    @pytest.mark.parametrize(
        "error",
        [
            gone(),
            APIError("slow down", error_code=ErrorCode.ERR_API_RATE_LIMIT),
            LimitExceeded("busy"),
            CircuitBreakerOpen("of another target"),
            KeyError("unknown"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_every_category_but_permanent(self, both_worlds, error):
        """
        Trouble that may pass, refusals and the unknown are stood in for.
        """

        assert "sorry" == both_worlds(error, fallback=(value("sorry"),))()

    @pytest.mark.parametrize(
        "error", [unauthorized(), ValidationError("no"), TypeError("a mistake")], ids=lambda error: type(error).__name__
    )
    def test_permanent_ones_pass_through(self, both_worlds, error, events):
        """
        A wrong key, a wrong request or a mistake in the program must be seen, not papered over.
        """
        with pytest.raises(type(error)) as caught:
            both_worlds(error, fallback=(cache(), value("sorry")), options=dict(KEY))()
        reason = f"does not serve for {getattr(error, 'error_code', 'PERMANENT')}"

        assert error is caught.value
        assert [
            FallbackSkipped("shop.pay", "cache", reason),
            FallbackSkipped("shop.pay", "default_value", reason),
        ] == [event for event in events if isinstance(event, FallbackServed | FallbackSkipped)]

    @pytest.mark.parametrize(("cause", "serves"), [(unauthorized(), False), (gone(), True), (None, True)])
    def test_the_root_cause_is_judged(self, clock, cause, serves):
        """
        A guard's refusal stands for what is behind it: exhausted retries of a wrong key are a wrong key.
        """
        error = RetryExhausted("used up")
        error.__cause__ = CircuitBreakerOpen("open")
        error.__cause__.__cause__ = cause
        run = FallbackChain([value("sorry")], clock=clock).begin(error, None)
        run.next_step()

        assert serves == (run.served is not None)

    def test_the_target_s_own_open_breaker(self, both_worlds):
        """
        While the breaker is open, the fallback serves without the target being called.
        """
        call = both_worlds(
            gone(), circuit_breaker=CircuitBreakerConfig(failure_threshold=1), fallback=(value("sorry"),)
        )
        outcomes = [call.outcome(), call.outcome()]

        assert [("sorry", 1), ("sorry", 0)] == [(outcome.value, outcome.attempts) for outcome in outcomes]
        assert [LOST, ErrorCode.ERR_CB_OPEN] == [outcome.error.error_code for outcome in outcomes]
        assert 1 == call.calls


class TestOutcome:
    def test_says_who_served_and_why_the_others_did_not(self, both_worlds, clock, events):
        """
        A degraded result names its step, the error it stands in for, the attempts, the time and what was skipped.
        """
        error = gone()

        def slow():
            clock.advance(2.5)
            raise error

        outcome = both_worlds(slow, fallback=(cache(), value("sorry")), options=dict(KEY)).outcome("visa")

        assert ("sorry", "default_value", True, 1) == (
            outcome.value,
            outcome.served_by,
            outcome.degraded,
            outcome.attempts,
        )
        assert error is outcome.error
        assert 2.5 == pytest.approx(outcome.elapsed)
        assert (SkippedStep("cache", "holds no fresh result of this request"),) == outcome.skipped
        assert [
            FallbackSkipped("shop.pay", "cache", "holds no fresh result of this request"),
            FallbackServed("shop.pay", "default_value", LOST, None),
        ] == events[-2:]

    def test_the_error_tells_its_history(self, both_worlds):
        """
        The error that a fallback stands in for has attempts and history, as if it had been raised.
        """
        retry = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=2)
        outcome = both_worlds(gone(), retry=retry, fallback=(NONE,)).outcome()

        assert (2, 2, 2) == (outcome.attempts, outcome.error.attempts, len(outcome.error.history))


class TestCacheStep:
    def test_serves_the_last_good_result_of_the_same_request(self, both_worlds, clock, events):
        """
        After a failure the result of an equal request serves, and the report says how old it is.
        """
        call = both_worlds("first", "second", gone(), fallback=(cache(),), options=dict(KEY))
        call("visa")
        call("visa")
        clock.advance(20)
        outcome = call.outcome("visa")

        assert ("second", "cache", True) == (outcome.value, outcome.served_by, outcome.degraded)
        assert [FallbackServed("shop.pay", "cache", LOST, pytest.approx(20.0))] == events[-1:]

    def test_is_read_only_after_a_failure(self, both_worlds):
        """
        As long as calls succeed they are made: the cache saves none.
        """
        call = both_worlds("first", "second", fallback=(cache(),), options=dict(KEY))

        assert ["first", "second"] == [call("visa"), call("visa")]
        assert 2 == call.calls

    def test_does_not_serve_another_request(self, both_worlds):
        """
        A request with another key gets nobody else's result.
        """
        call = both_worlds("paid", gone(), fallback=(cache(), value("sorry")), options=dict(KEY))
        call("visa")

        assert "sorry" == call("amex")

    @pytest.mark.parametrize(("age", "expected"), [(59.9, "paid"), (60.1, "sorry"), (6000.0, "sorry")])
    def test_never_serves_past_ttl(self, both_worlds, clock, age, expected):
        """
        A result too old does not serve, however bad things are.
        """
        call = both_worlds("paid", gone(), fallback=(cache(ttl=60.0), value("sorry")), options=dict(KEY))
        call("visa")
        clock.advance(age)

        assert expected == call("visa")

    def test_keeps_no_more_than_max_entries(self, both_worlds):
        """
        Beyond max_entries, the result unused for longest goes.
        """
        call = both_worlds("a", "b", "c", gone(), fallback=(cache(max_entries=2), value("sorry")), options=dict(KEY))
        for number in range(3):
            call(number)

        assert ["sorry", "b", "c"] == [call(number) for number in range(3)]

    def test_keeps_only_what_is_cacheable(self, both_worlds):
        """
        A result that ``cacheable`` turns down, such as a truncated one, is given but not kept.
        """
        options = {**KEY, "cacheable": lambda result: result != "truncated"}
        call = both_worlds("truncated", gone(), fallback=(cache(), value("sorry")), options=options)

        assert ["truncated", "sorry"] == [call("visa"), call("visa")]

    def test_keeps_nothing_that_a_fallback_served(self, both_worlds):
        """
        What stood in for a result is no result.
        """
        call = both_worlds(gone(), fallback=(cache(), value("sorry")), options=dict(KEY))
        call("visa")
        call("visa")

        assert 0 == len(call.stack.fallback.cache)

    def test_keeps_what_came_after_retries(self, both_worlds):
        """
        A result that took more than one attempt is as good as any.
        """
        retry = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=2)
        call = both_worlds(gone(), "paid", gone(), retry=retry, fallback=(cache(),), options=dict(KEY))
        call("visa")

        assert "paid" == call("visa")

    def test_is_shared_by_all_that_is_wrapped_for_a_target(self, make_stack, world, scripted):
        """
        Two callables of one target that give the same key share its result.
        """
        stack = make_stack(fallback=(cache(),))
        world.run(guard(stack, world.function(scripted("paid")), **KEY), "visa")

        assert "paid" == world.run(guard(stack, world.function(scripted(gone())), **KEY), "visa")

    @pytest.mark.parametrize(
        ("key", "reason"),
        [
            pytest.param(lambda: {}["k"], "KeyError: 'k'", id="raises"),
            pytest.param(lambda: ["a list"], "TypeError: unhashable type: 'list'", id="cannot be hashed"),
        ],
    )
    def test_a_wrong_key_is_seen_before_anything_has_happened(self, both_worlds, key, reason):
        """
        The key is made before the call, so a wrong one fails without the call being made.
        """
        call = both_worlds("paid", fallback=(cache(), value("sorry")), options={"key": key})
        with pytest.raises(ValidationError) as caught:
            call()

        assert f"shop.pay: key= can't name this call in the cache: {reason}" == str(caught.value)
        assert 0 == call.calls

    def test_a_fault_of_cacheable_does_not_take_a_good_result_away(self, both_worlds, caplog):
        """
        The value is given back and not kept; the fault is in the library's log.
        """

        def fail(result):
            raise ConnectionResetError("no cache")

        call = both_worlds("paid", fallback=(cache(), value("sorry")), options={**KEY, "cacheable": fail})

        assert "paid" == call()
        assert ["shop.pay: its result can't be kept"] == caplog.messages


class TestAfterTheDeadline:
    def test_steps_still_serve(self, both_worlds, clock):
        """
        Steps that need no I/O serve when the deadline has passed.
        """

        def too_slow():
            clock.advance(11)
            raise gone()

        call = both_worlds("paid", too_slow, deadline=10.0, fallback=(cache(),), options=dict(KEY))
        call("visa")

        assert "paid" == call("visa")

    def test_that_had_passed_on_entry(self, both_worlds, make_stack, clock, world):
        """
        Even a target that could not be called at all is stood in for, and the outcome says so.
        """
        inner = both_worlds("paid", fallback=(value("sorry"),))
        body = world.calling(inner.guarded.outcome, before=lambda: clock.advance(5))
        found = world.run(guard(make_stack("shop.order", deadline=5.0), body))

        assert ("sorry", 0, 0) == (found.value, found.attempts, inner.calls)
        assert ErrorCode.ERR_TIMEOUT_DEADLINE is found.error.error_code
