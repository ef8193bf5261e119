"""Single layers in code, without a policy file."""

import asyncio

import pytest

from pixel_llm.errors import CircuitBreakerOpen, ConnectionError, ErrorCode, TimeoutError, ValidationError
from pixel_llm.policy import CacheConfig, CircuitBreakerConfig, FallbackStep, FallbackStrategy, Jitter, RetryConfig
from pixel_llm.resilience import (
    CircuitBreaker,
    CircuitState,
    FallbackConfig,
    FallbackManager,
    FallbackStats,
    RetryManager,
    RetryState,
    RetryStats,
    RetryStrategy,
    retry,
    retry_on_connection_error,
    retry_on_timeout,
    with_circuit_breaker,
    with_fallback,
)
from pixel_llm.testing import VirtualClock

STEADY = {"strategy": RetryStrategy.FIXED_DELAY, "initial_delay": 2.0, "jitter": Jitter.NONE}
SORRY = FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="sorry")
CACHE = FallbackStep(FallbackStrategy.CACHE, cache=CacheConfig(ttl=60.0))


@pytest.fixture
def fails(world, scripted):
    """A function of the case's world that fails so often, then succeeds."""

    def make(times, error=None):
        script = scripted(*[error or ConnectionError("gone")] * times, "done")
        function = world.function(script)
        function.script = script
        return function

    return make


class TestRetry:
    def test_with_settings(self, world, fails, clock):
        """
        Settings are RetryConfig's, in seconds.
        """
        function = fails(2)

        assert "done" == world.run(retry(clock=clock, **STEADY)(function))
        assert [2.0, 2.0] == clock.sleeps
        assert 3 == function.script.calls

    def test_is_a_target_by_its_name(self, world, fails, clock):
        """
        Errors name the function, with its module.
        """
        function = fails(9)
        with pytest.raises(ConnectionError) as caught:
            world.run(retry(clock=clock, **STEADY)(function))

        assert f"{function.__module__}.{function.__qualname__}" == caught.value.target

    def test_with_a_config(self, world, fails, clock):
        """
        Or a whole config is given.
        """
        decorate = retry(RetryConfig(max_attempts=2, **STEADY), clock=clock)

        with pytest.raises(ConnectionError):
            world.run(decorate(fails(2)))

    def test_bare(self, world, fails):
        """
        Without parentheses the defaults apply.
        """

        assert "done" == world.run(retry(fails(0)))

    def test_tells_its_listener(self, world, fails, clock):
        """
        A listener hears of what is beyond a clean success.
        """
        events = []
        world.run(retry(clock=clock, listener=events.append, **STEADY)(fails(1)))

        assert ["attempt_failed", "retry_scheduled", "call_recovered"] == [event.name for event in events]

    @pytest.mark.parametrize(
        ("decorate", "retried", "other"),
        [
            (retry_on_connection_error, ConnectionError("gone"), TimeoutError("late")),
            (retry_on_timeout, TimeoutError("late"), ConnectionError("gone")),
        ],
    )
    def test_for_one_family_of_errors(self, world, fails, clock, decorate, retried, other):
        """
        Only errors of the family are tried again.
        """

        assert "done" == world.run(decorate(clock=clock, **STEADY)(fails(1, retried)))
        with pytest.raises(type(other)):
            world.run(decorate(clock=clock, **STEADY)(fails(1, other)))

    @pytest.mark.parametrize(
        ("wrong", "text"),
        [
            (lambda: retry(RetryConfig(), max_attempts=2), "not both"),
            (lambda: retry(3), "must be a RetryConfig"),
            (lambda: retry(attempts=3), "attempts"),
            (lambda: retry(max_attempts=0), "max_attempts must be a whole number from 1 to 100"),
            (lambda: retry(max_attempts=True), "max_attempts must be a whole number"),
            (lambda: retry(strategy="bananas"), "strategy must be one of RetryStrategy.EXPONENTIAL_BACKOFF"),
            (lambda: retry(jitter="bananas"), "bananas"),
            (lambda: retry(initial_delay="10ms"), "initial_delay must be 0 or more seconds"),
            (lambda: retry(initial_delay=float("nan")), "initial_delay must be 0 or more seconds"),
            (lambda: retry(backoff_multiplier=1e300), "backoff_multiplier must be a number from 1 to 100"),
            (lambda: retry(retry_on=[OSError]), "retry_on must be an ErrorMatcher"),
            (lambda: retry(retry_on_result=len), "retry_on_result must be"),
            (lambda: retry(wait_for_breaker=1), "wait_for_breaker must be True or False"),
            (lambda: retry(budget=3), "budget must be a RetryBudgetConfig"),
            (lambda: with_circuit_breaker(mode="forced_open"), "mode must be one of BreakerMode"),
            (lambda: with_circuit_breaker(failure_rate=5), "failure_rate must be"),
            (lambda: with_circuit_breaker(cooldown="30s"), "cooldown must be more than 0 seconds"),
            (lambda: with_fallback(len), "must be a FallbackStep"),
            (lambda: with_fallback(FallbackStep(FallbackStrategy.CACHE)), "needs cache=CacheConfig"),
            (lambda: FallbackManager([SORRY]), "must be a FallbackConfig"),
            (lambda: FallbackManager(FallbackConfig(())), "at least one step"),
            (lambda: RetryManager({"max_attempts": 3}), "must be a RetryConfig"),
        ],
    )
    def test_wrong_settings(self, wrong, text):
        """
        A setting that is none is said when the function is decorated.
        """
        with pytest.raises(ValidationError, match=text):
            wrong()


class TestWithCircuitBreaker:
    def test_of_its_own(self, world, fails):
        """
        Each function has a breaker of its own.
        """
        decorate = with_circuit_breaker(failure_threshold=1)
        first, second = decorate(fails(9)), decorate(fails(0))
        with pytest.raises(ConnectionError):
            world.run(first)
        with pytest.raises(CircuitBreakerOpen):
            world.run(first)

        assert "done" == world.run(second)

    def test_shared(self, world, fails):
        """
        Functions of one server share its breaker.
        """
        breaker = CircuitBreaker("server", CircuitBreakerConfig(failure_threshold=1))
        first, second = with_circuit_breaker(breaker)(fails(9)), with_circuit_breaker(breaker)(fails(0))
        with pytest.raises(ConnectionError):
            world.run(first)

        assert CircuitState.OPEN is breaker.state
        with pytest.raises(CircuitBreakerOpen):
            world.run(second)

    def test_shared_with_a_clock(self, world, clock):
        """
        Time comes from the given clock, whatever clock the breaker has.
        """
        breaker = CircuitBreaker("server", CircuitBreakerConfig())
        decorated = with_circuit_breaker(breaker, clock=clock)(world.function(lambda: clock.advance(3.0)))

        assert 3.0 == pytest.approx(world.run(decorated.outcome).elapsed)

    def test_both(self):
        """
        A breaker has its settings already.
        """
        with pytest.raises(ValidationError, match="not both"):
            with_circuit_breaker(CircuitBreaker("server"), failure_threshold=1)


class TestWithFallback:
    def test_serves(self, world, fails):
        """
        The steps serve in order.
        """

        assert "sorry" == world.run(with_fallback(SORRY)(fails(1)))

    def test_with_a_cache(self, world, scripted):
        """
        A cache needs the key of a call.
        """
        script = scripted("good", ConnectionError("gone"))
        function = with_fallback(CACHE, key=lambda name: name)(world.function(script))

        assert ("good", "good") == (world.run(function, "a"), world.run(function, "a"))
        with pytest.raises(ConnectionError):
            world.run(function, "b")

    def test_without_steps(self):
        """
        A fallback that has nothing to serve is a mistake.
        """
        with pytest.raises(ValidationError, match="at least one step"):
            with_fallback()


class TestRetryManager:
    def test_statistics(self, world, fails, clock):
        """
        A call at once, one after two waits, one that failed for good after one.
        """
        manager = RetryManager(RetryConfig(max_attempts=3, **STEADY), clock=clock)
        world.run(manager.wrap(fails(0)))
        world.run(manager.wrap(fails(2)))
        with pytest.raises(ConnectionError):
            world.run(manager.wrap(fails(9)))
        with pytest.raises(KeyError):
            world.run(manager.wrap(fails(9, KeyError())))

        assert RetryStats(8, 1, 1, 8.0) == manager.stats()

    def test_execute(self, fails, clock):
        """
        A call can be made at once; an async one is awaited.
        """
        manager = RetryManager(RetryConfig(**STEADY), clock=clock)

        async def add(first, second):
            return first + second

        async def main():
            return await manager.execute(add, 1, second=2)

        assert 3 == asyncio.run(main())
        assert 3 == manager.execute(lambda first, second: first + second, 1, second=2)

    def test_a_sequence_of_the_program_s_own(self, clock):
        """
        Where the program makes the calls by itself, it asks after each failure.
        """
        state = RetryManager(RetryConfig(max_attempts=3, **STEADY), clock=clock).begin(deadline=clock.monotonic() + 3)

        assert isinstance(state, RetryState)
        assert 2.0 == state.after_failure(ConnectionError("gone"))
        clock.advance(2)
        assert state.after_failure(ConnectionError("gone")) is None
        assert "would outlive the deadline" in state.reason


class TestFallbackManager:
    def test_statistics(self, world, fails):
        """
        How often each step served, and how often the cache could.
        """
        manager = FallbackManager(FallbackConfig((CACHE, SORRY)), clock=VirtualClock())

        def call(function, **more):
            return world.run(lambda: manager.execute_with_fallback(function, **more))

        values = [
            call(fails(0), cache_key="a"),
            call(fails(1), cache_key="a"),
            call(fails(1), cache_key="b"),
            call(fails(1)),
        ]

        assert ["done", "done", "sorry", "sorry"] == values
        stats = manager.get_stats()
        assert FallbackStats(4, 3, {"cache": 1, "default_value": 2}, 1, 2) == stats
        assert 1 / 3 == stats.cache_hit_rate

    def test_before_the_first_call(self):
        """
        Nothing was asked, so nothing was hit.
        """

        assert 0.0 == FallbackManager(FallbackConfig((SORRY,))).get_stats().cache_hit_rate

    def test_the_cache_in_the_program_s_hand(self):
        """
        Results can be put into the cache and looked at; their age counts.
        """
        clock = VirtualClock()
        manager = FallbackManager(FallbackConfig((CACHE,)), clock=clock)
        manager.cache_result("a", "good")
        clock.advance(30)
        found = manager.get_cached("a")

        assert ("good", 30.0, True) == (found.value, found.age_seconds(), found.is_valid())
        clock.advance(30)
        assert not found.is_valid()
        assert manager.get_cached("a") is None

    def test_arguments(self):
        """
        The function gets its own arguments, and nothing of the manager's.
        """
        manager = FallbackManager(FallbackConfig((SORRY,)))

        assert (1, 2) == manager.execute_with_fallback(lambda first, second: (first, second), 1, second=2)

    def test_a_function_by_name(self, world, fails):
        """
        A step may call a function, which is given by name.
        """
        step = FallbackStep(FallbackStrategy.CUSTOM_FUNCTION, value="apologise")
        manager = FallbackManager(FallbackConfig((step,)), functions={"apologise": lambda: "so sorry"})

        assert "so sorry" == world.run(lambda: manager.execute_with_fallback(fails(1)))

    def test_without_a_cache(self):
        """
        What needs one says so.
        """
        manager = FallbackManager(FallbackConfig((SORRY,)))
        with pytest.raises(ValidationError, match="none of its steps is a cache") as caught:
            manager.cache_result("a", 1)

        assert ErrorCode.ERR_VAL_MISSING_FIELD is caught.value.error_code
