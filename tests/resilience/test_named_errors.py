"""What a policy names by category, code or HTTP status, in both worlds: `retry_on`, `count` and `when`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pixel_llm.errors import APIError, CircuitBreakerOpen, ConnectionError, ErrorCode, TimeoutError, ValidationError
from pixel_llm.policy import (
    CacheConfig,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    Jitter,
    RetryConfig,
    RetryStrategy,
)
from pixel_llm.policy.sections.matching import NEVER_RETRIED, ErrorMatcher
from pixel_llm.resilience import CircuitState, SkippedStep, guard

UNAUTHORIZED = ErrorCode.ERR_API_UNAUTHORIZED
SERVER_ERROR = ErrorCode.ERR_API_SERVER_ERROR


class ForeignStatusError(Exception):
    """An error of another library, with a response as httpx and requests have it."""

    def __init__(self, status: object) -> None:
        super().__init__(f"status {status}")
        self.response = SimpleNamespace(status_code=status)


class RefusesToTellError(Exception):
    """An error whose response can't be looked at."""

    @property
    def response(self) -> object:
        raise RuntimeError("there is none")


def ours(status=None, code=UNAUTHORIZED):
    return APIError("no", error_code=code, details={} if status is None else {"status": status})


def retry(*names, attempts=2):
    return RetryConfig(
        strategy=RetryStrategy.IMMEDIATE,
        max_attempts=attempts,
        jitter=Jitter.NONE,
        **({"retry_on": ErrorMatcher.of(*names)} if names else {}),
    )


def breaker(*names):
    return CircuitBreakerConfig(failure_threshold=1, **({"count": ErrorMatcher.of(*names)} if names else {}))


def value(text, *names):
    return FallbackStep(FallbackStrategy.DEFAULT_VALUE, value=text, when=ErrorMatcher.of(*names))


class TestRetryOn:
    @pytest.mark.parametrize(
        ("names", "error", "calls"),
        [
            ((), ours(401), 1),
            ((UNAUTHORIZED,), ours(401), 2),
            ((401,), ours(401), 2),
            (("4xx",), ours(401), 2),
            (("4xx",), ours(), 1),
            ((403,), ours(401), 1),
            ((), ForeignStatusError(503), 1),
            ((503,), ForeignStatusError(503), 2),
            (("5xx",), ForeignStatusError(503), 2),
            (("5xx",), ForeignStatusError(403), 1),
            (("5xx",), ForeignStatusError("503"), 1),
            (("5xx",), ForeignStatusError(None), 1),
            (("5xx",), RefusesToTellError(), 1),
            ((), KeyError("x"), 1),
            (("UNKNOWN",), KeyError("x"), 2),
            (("UNKNOWN",), TypeError("a mistake"), 1),
            (("UNKNOWN",), ours(500, SERVER_ERROR), 1),
            (("THROTTLED",), ours(429, ErrorCode.ERR_API_RATE_LIMIT), 2),
            (("THROTTLED",), ConnectionError("gone"), 1),
        ],
        ids=str,
    )
    def test_what_is_named(self, both_worlds, names, error, calls):
        """
        An error that is named by its category, its code or its status is tried again, and no other.
        """
        call = both_worlds(error, retry=retry(*names))
        with pytest.raises(type(error)) as caught:
            call()

        assert error is caught.value
        assert calls == call.calls

    def test_the_default_retries_what_may_go_away(self, both_worlds):
        """
        Without a list, transient and throttled errors are retried.
        """
        call = both_worlds(
            ours(429, ErrorCode.ERR_API_RATE_LIMIT), ConnectionError("gone"), "paid", retry=retry(attempts=3)
        )

        assert "paid" == call()

    @pytest.mark.parametrize("code", sorted(NEVER_RETRIED))
    def test_never_a_refusal(self, both_worlds, code):
        """
        A refusal, wrong input or a passed deadline is not retried, even where its status is named.
        """
        error = APIError("no", error_code=code, details={"status": 503})
        call = both_worlds(error, retry=retry("5xx", "TRANSIENT", "THROTTLED", "UNKNOWN"))
        with pytest.raises(APIError):
            call()

        assert 1 == call.calls

    def test_never_what_an_open_breaker_refuses(self, both_worlds, clock):
        """
        The target's own breaker ends the retries, whatever they are for.
        """
        call = both_worlds(ours(503, SERVER_ERROR), retry=retry("5xx", attempts=5), circuit_breaker=breaker("5xx"))
        with pytest.raises(APIError):
            call()
        with pytest.raises(CircuitBreakerOpen):
            call()

        assert (1, []) == (call.calls, clock.sleeps)

    @pytest.mark.parametrize(("code", "calls"), [(ErrorCode.ERR_CONN_REFUSED, 2), (ErrorCode.ERR_CONN_LOST, 1)])
    def test_what_is_not_idempotent_must_prove_that_nothing_was_sent(self, both_worlds, code, calls):
        """
        A list of errors does not make a target idempotent.
        """
        error = ConnectionError("gone", error_code=code)
        call = both_worlds(error, retry=retry(code), idempotent=False)
        with pytest.raises(ConnectionError):
            call()

        assert calls == call.calls


class TestCount:
    @pytest.mark.parametrize(
        ("names", "error", "opens"),
        [
            ((), ConnectionError("gone"), True),
            ((), KeyError("x"), True),
            ((), ours(401), False),
            ((), ours(429, ErrorCode.ERR_API_RATE_LIMIT), False),
            (("THROTTLED",), ours(429, ErrorCode.ERR_API_RATE_LIMIT), True),
            ((429,), ours(429, ErrorCode.ERR_API_RATE_LIMIT), True),
            ((429,), ConnectionError("gone"), False),
            (("5xx",), ForeignStatusError(503), True),
            (("5xx",), ForeignStatusError(429), False),
            (("5xx",), RefusesToTellError(), False),
            (("PERMANENT",), ours(401), True),
            (("PERMANENT",), TypeError("a mistake"), True),
            ((ErrorCode.ERR_VAL_EMPTY_INPUT,), ValidationError("no", error_code=ErrorCode.ERR_VAL_EMPTY_INPUT), True),
            (("DEGRADATION",), CircuitBreakerOpen("of another target"), True),
        ],
        ids=str,
    )
    def test_what_is_named(self, both_worlds, names, error, opens):
        """
        An error that is named is a failure to the breaker, and no other.
        """
        call = both_worlds(error, circuit_breaker=breaker(*names))
        with pytest.raises(type(error)):
            call()

        assert (CircuitState.OPEN if opens else CircuitState.CLOSED) is call.stack.breaker.state

    def test_others_give_a_half_open_permit_back(self, both_worlds, clock):
        """
        What does not count proves nothing: the next call is the trial.
        """
        config = CircuitBreakerConfig(
            failure_threshold=1, success_threshold=1, cooldown=10.0, count=ErrorMatcher.of("5xx")
        )
        call = both_worlds(ours(503, SERVER_ERROR), ours(401), "paid", circuit_breaker=config)
        for _ in range(2):
            with pytest.raises(APIError):
                call()
            clock.advance(10)

        assert CircuitState.HALF_OPEN is call.stack.breaker.state
        assert "paid" == call()
        assert CircuitState.CLOSED is call.stack.breaker.state

    def test_what_the_caller_s_deadline_cut_stays_neutral(self, both_worlds, world, make_stack, clock):
        """
        Naming timeouts does not count an attempt that had no fair share of time.
        """

        def slow():
            clock.advance(6)
            raise TimeoutError("cut")

        inner = both_worlds(slow, circuit_breaker=breaker(ErrorCode.ERR_TIMEOUT_REQUEST))
        outer = guard(make_stack("shop.order", deadline=5.0), world.calling(inner.guarded), cooperative=True)
        with pytest.raises(TimeoutError):
            world.run(outer)

        assert CircuitState.CLOSED is inner.stack.breaker.state

        with pytest.raises(TimeoutError):
            inner()

        assert CircuitState.OPEN is inner.stack.breaker.state


class TestWhen:
    @pytest.mark.parametrize(
        ("error", "served"),
        [
            (ours(429, ErrorCode.ERR_API_RATE_LIMIT), "later"),
            (ours(400, ErrorCode.ERR_API_CONTEXT_LENGTH), "shorter"),
            (ours(503, SERVER_ERROR), "down"),
            (ForeignStatusError(502), "down"),
            (KeyError("x"), "sorry"),
        ],
        ids=str,
    )
    def test_the_first_step_that_is_for_the_error_serves(self, both_worlds, error, served):
        """
        Each step serves for the errors it names; one without names for all but permanent ones.
        """
        steps = (
            value("later", "THROTTLED"),
            value("shorter", ErrorCode.ERR_API_CONTEXT_LENGTH),
            value("down", "5xx"),
            FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="sorry"),
        )

        assert served == both_worlds(error, fallback=steps)()

    def test_may_cover_what_is_permanent(self, both_worlds):
        """
        A step that names permanent errors serves for them: the policy says so, and lint asks why.
        """
        assert "sorry" == both_worlds(ours(401), fallback=(value("sorry", "PERMANENT"),))()

    def test_steps_that_do_not_serve_are_told(self, both_worlds):
        """
        The outcome says which steps were passed over, and for what error.
        """
        outcome = both_worlds(KeyError("x"), fallback=(value("a", "5xx"), value("b", "UNKNOWN"))).outcome()

        assert ("b", (SkippedStep("default_value", "does not serve for UNKNOWN"),)) == (outcome.value, outcome.skipped)

    def test_the_root_cause_is_judged(self, both_worlds):
        """
        A refusal stands for the error behind it, its status too.
        """
        error = CircuitBreakerOpen("of another target")
        error.__cause__ = ours(503, SERVER_ERROR)

        assert "down" == both_worlds(error, fallback=(value("refused", "DEGRADATION"), value("down", 503)))()

    def test_of_a_cache(self, both_worlds):
        """
        A cache that is not for the error is not read.
        """
        cache = FallbackStep(FallbackStrategy.CACHE, cache=CacheConfig(ttl=60.0), when=ErrorMatcher.of("THROTTLED"))
        call = both_worlds(
            "paid",
            ConnectionError("gone"),
            ours(429, ErrorCode.ERR_API_RATE_LIMIT),
            fallback=(cache,),
            options={"key": lambda *args: args},
        )
        call("visa")
        with pytest.raises(ConnectionError):
            call("visa")

        assert "paid" == call("visa")

    def test_raise_ends_the_chain_for_every_error(self, both_worlds):
        """
        After ``raise`` nothing serves, not even a step for permanent errors.
        """
        steps = (FallbackStep(FallbackStrategy.RAISE), value("sorry", "PERMANENT"))
        with pytest.raises(APIError):
            both_worlds(ours(401), fallback=steps)()


class TestDescribe:
    def test_shows_names(self, make_stack):
        """
        Errors are shown by name, as a policy lists them; a step's only if they are not the default.
        """
        stack = make_stack(
            retry=retry("5xx", "TRANSIENT"),
            circuit_breaker=breaker(429),
            fallback=(value("sorry", "PERMANENT"), FallbackStep(FallbackStrategy.NONE)),
        )
        settings = {layer.name: layer.settings for layer in stack.describe()}

        assert (["TRANSIENT", "5xx"], ["429"]) == (settings["retry"]["retry_on"], settings["circuit_breaker"]["count"])
        assert [
            {"strategy": "default_value", "value": "sorry", "when": ["PERMANENT"]},
            {"strategy": "none"},
        ] == settings["fallback"]["steps"]
