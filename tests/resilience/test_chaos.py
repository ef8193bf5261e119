import asyncio
import dataclasses

import pytest

from pixel_llm.errors import (
    APIError,
    ConnectionError,
    EncoderError,
    ErrorCode,
    PixelLMError,
    TimeoutError,
    http_status,
)
from pixel_llm.events import AttemptFailed, ChaosInjected
from pixel_llm.policy import (
    ChaosConfig,
    ChaosDelay,
    ChaosError,
    ChaosResult,
    CircuitBreakerConfig,
    Jitter,
    PolicyConfig,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
)
from pixel_llm.policy.bounds import compute_bounds
from pixel_llm.policy.sections.chaos import INJECTABLE
from pixel_llm.resilience import CircuitState, Stack, current_limits, guard
from pixel_llm.resilience.chaos import Chaos
from pixel_llm.testing import VirtualClock

REFUSED, OVERLOAD = ErrorCode.ERR_CONN_REFUSED, ErrorCode.ERR_API_OVERLOAD


def errors(rate=1.0, *codes):
    return ChaosError(rate=rate, codes=codes or (REFUSED,))


def draws(count, target="shop.pay", **config):
    chaos = Chaos(target, ChaosConfig(**config), clock=VirtualClock())
    return [chaos.draw() for _ in range(count)]


class TestDraws:
    def test_are_the_same_with_the_same_seed(self):
        """
        With a seed every run meets the same faults in the same order, in any process.
        """
        config = {"error": errors(0.3, REFUSED, OVERLOAD), "delay": ChaosDelay(rate=0.5, duration=3.0), "seed": 7}
        expected = [
            (0.0, OVERLOAD), (3.0, None), (3.0, OVERLOAD), (0.0, None), (3.0, None),
            (3.0, None), (0.0, REFUSED), (3.0, OVERLOAD),
        ]  # fmt: skip

        assert draws(200, **config) == draws(200, **config)
        assert expected == [(fault.delay, fault.error_code) for fault in draws(8, **config)]

    def test_differ_with_seed_and_target(self):
        """
        Another seed, or another target with the same seed, meets other faults.
        """
        config = {"error": errors(0.5)}

        assert draws(100, **config, seed=7) != draws(100, **config, seed=8)
        assert draws(100, **config, seed=7) != draws(100, "shop.refund", **config, seed=7)

    def test_differ_without_a_seed(self):
        """
        Without a seed each run meets its own.
        """
        assert draws(100, error=errors(0.5)) != draws(100, error=errors(0.5))

    def test_keep_to_the_rates(self):
        """
        Each fault has its own rate, and whether one comes says nothing of the others.
        """
        faults = draws(
            20_000,
            error=errors(0.1, REFUSED, OVERLOAD),
            delay=ChaosDelay(rate=0.2, duration=1.0),
            result=ChaosResult(rate=0.5, value=1),
            seed=1,
        )
        share = [
            sum(map(bool, column)) / len(faults)
            for column in (
                [fault.delay for fault in faults],
                [fault.error_code for fault in faults],
                [fault.error_code is REFUSED for fault in faults],
                [fault.result for fault in faults],
                [fault.delay and fault.error_code for fault in faults],
                [fault.result and fault.error_code for fault in faults],
            )
        ]

        assert [0.2, 0.1, 0.05, 0.45, 0.02, 0.0] == pytest.approx(share, abs=0.01)

    def test_one_rate_leaves_the_other_faults_alone(self):
        """
        Changing the rate of delays moves no error.
        """

        def failing(rate):
            return [
                f.error_code for f in draws(200, error=errors(0.3), delay=ChaosDelay(rate=rate, duration=1.0), seed=7)
            ]

        assert failing(0.0) == failing(1.0)


class TestErrors:
    @pytest.mark.parametrize("code", INJECTABLE)
    def test_look_like_real_ones(self, both_worlds, code):
        """
        An injected error has the type and the status that a real one of its code has, and is marked.
        """
        both = both_worlds("never called", chaos=ChaosConfig(error=errors(1.0, code)))
        with pytest.raises(PixelLMError) as caught:
            both()
        types = {"CONNECTION": ConnectionError, "TIMEOUT": TimeoutError, "API": APIError, "ENCODER": EncoderError}
        expected = TimeoutError if code is ErrorCode.ERR_CONN_TIMEOUT else types[code.info.family]
        statuses = {
            "ERR_API_RATE_LIMIT": 429, "ERR_API_OVERLOAD": 503, "ERR_API_UNAUTHORIZED": 401,
            "ERR_API_MODEL_NOT_FOUND": 404, "ERR_API_CONTEXT_LENGTH": 400, "ERR_API_BAD_REQUEST": 400,
            "ERR_API_SERVER_ERROR": 500,
        }  # fmt: skip

        assert (expected, code) == (type(caught.value), caught.value.error_code)
        assert caught.value.details["chaos"] is True
        assert statuses.get(code) == http_status(caught.value)
        assert f"shop.pay: {code.info.message} (injected by chaos)" == str(caught.value)
        assert 0 == both.calls

    def test_are_what_a_server_can_fail_of(self):
        """
        Wrong input, refusals of a stack's own layers and a deadline that has passed are not injected.
        """
        families = {code.info.family.value for code in INJECTABLE}

        assert {"CONNECTION", "TIMEOUT", "API", "ENCODER"} == families
        assert ErrorCode.ERR_TIMEOUT_DEADLINE not in INJECTABLE

    def test_are_retried_and_counted(self, both_worlds, events):
        """
        The layers above take an injected error for the callable's own.
        """
        both = both_worlds(
            "never called",
            chaos=ChaosConfig(error=errors()),
            retry=RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=3, jitter=Jitter.NONE),
            circuit_breaker=CircuitBreakerConfig(failure_threshold=3),
        )
        with pytest.raises(ConnectionError) as caught:
            both()

        assert 3 == caught.value.attempts
        assert CircuitState.OPEN is both.stack.breaker.state
        assert [("error", REFUSED)] * 3 == [(e.injected, e.error_code) for e in events if type(e) is ChaosInjected]
        assert 3 == len([event for event in events if type(event) is AttemptFailed])

    def test_leave_the_other_attempts_alone(self, both_worlds):
        """
        An attempt that nothing is injected into calls the function as ever.
        """
        both = both_worlds("value", chaos=ChaosConfig(error=errors(0.0)))

        assert ["value"] * 3 == [both("a"), both("b"), both("c")]
        assert [("a",), ("b",), ("c",)] == both.script.arguments


class TestResults:
    def test_stand_for_the_call(self, both_worlds, events):
        """
        An injected result is given without the call being made, as if the call had given it.
        """
        both = both_worlds("never called", chaos=ChaosConfig(result=ChaosResult(rate=1.0, value={"paid": True})))
        outcome = both.outcome()

        assert ({"paid": True}, "call", False, 1) == (
            outcome.value, outcome.served_by, outcome.degraded, outcome.attempts,
        )  # fmt: skip
        assert 0 == both.calls
        assert [ChaosInjected("shop.pay", "result", None, 0.0)] == events

    def test_are_copies(self, both_worlds):
        """
        Whoever changes an injected result does not change the policy.
        """
        both = both_worlds(None, chaos=ChaosConfig(result=ChaosResult(rate=1.0, value=[])))
        both().append(1)

        assert [] == both()

    def test_stand_behind_errors(self, both_worlds):
        """
        An attempt that is to fail and to give a value fails.
        """
        both = both_worlds(None, chaos=ChaosConfig(error=errors(), result=ChaosResult(rate=1.0, value=1)))
        with pytest.raises(ConnectionError):
            both()


class TestDelays:
    def test_come_before_the_call(self, both_worlds, clock, events):
        """
        A delayed attempt calls the function when the delay is over.
        """
        began = []
        both = both_worlds(
            lambda: began.append(clock.monotonic()), chaos=ChaosConfig(delay=ChaosDelay(rate=1.0, duration=3.0))
        )
        both()

        assert [1003.1] == pytest.approx(began)
        assert [ChaosInjected("shop.pay", "delay", None, 3.0)] == events

    @pytest.mark.parametrize(
        ("layers", "code", "ends"),
        [
            ({"timeout": TimeoutConfig(attempt=2.0)}, ErrorCode.ERR_TIMEOUT_REQUEST, 2.0),
            ({"deadline": 2.5}, ErrorCode.ERR_TIMEOUT_DEADLINE, 2.5),
            ({"deadline": 2.5, "timeout": TimeoutConfig(attempt=2.0)}, ErrorCode.ERR_TIMEOUT_REQUEST, 2.0),
        ],
    )
    def test_end_with_the_attempt(self, both_worlds, clock, layers, code, ends):
        """
        A delay never outlives the attempt's limits; it fails as the timeout or the deadline would have it.
        """
        both = both_worlds("never called", chaos=ChaosConfig(delay=ChaosDelay(rate=1.0, duration=3.0)), **layers)
        with pytest.raises(TimeoutError) as caught:
            both()

        assert code is caught.value.error_code
        assert ends == pytest.approx(clock.monotonic() - 1000.1)
        assert 0 == both.calls

    def test_may_end_in_an_error(self, both_worlds, clock):
        """
        An attempt can be delayed and fail.
        """
        both = both_worlds(None, chaos=ChaosConfig(error=errors(), delay=ChaosDelay(rate=1.0, duration=3.0)))
        with pytest.raises(ConnectionError):
            both()

        assert 1003.1 == pytest.approx(clock.monotonic())

    def test_take_time_from_the_call(self, both_worlds):
        """
        The call has what the delay left of the attempt's time.
        """
        left = []
        both = both_worlds(
            lambda: left.append(current_limits().remaining()),
            chaos=ChaosConfig(delay=ChaosDelay(rate=1.0, duration=3.0)),
            timeout=TimeoutConfig(attempt=5.0),
        )
        both()

        assert [2.0] == pytest.approx(left)

    def test_call_has_its_arguments(self, make_stack):
        """
        What comes after an injected delay is the call as it was made, keywords included.
        """
        stack = make_stack(chaos=ChaosConfig(delay=ChaosDelay(rate=1.0, duration=3.0)))

        def pay(card, *, amount):
            return card, amount

        async def pay_async(card, *, amount):
            return card, amount

        assert ("visa", 3) == guard(stack, pay, cooperative=True)("visa", amount=3)
        assert ("visa", 3) == asyncio.run(guard(stack, pay_async)("visa", amount=3))

    def test_can_be_cancelled(self):
        """
        Cancelling a call cancels the delay that it is in.
        """
        stack = Stack("shop.pay", TargetPolicy(chaos=ChaosConfig(delay=ChaosDelay(rate=1.0, duration=60.0))))

        async def function():
            """Never called."""

        async def main():
            task = asyncio.create_task(guard(stack, function)())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())


class TestStack:
    def test_chaos_is_the_innermost_layer(self, make_stack):
        """
        ``describe`` shows chaos right around the call, with all its settings.
        """
        stack = make_stack(
            timeout=TimeoutConfig(attempt=5.0), chaos=ChaosConfig(error=errors(0.1, REFUSED, OVERLOAD), seed=7)
        )
        *_, chaos, call = stack.describe()

        assert ("chaos", "call") == (chaos.name, call.name)
        assert {
            "error": {"rate": 0.1, "codes": (REFUSED, OVERLOAD)}, "delay": None, "result": None, "seed": 7,
        } == chaos.settings  # fmt: skip

    def test_what_is_wrapped_is_known(self, both_worlds, world):
        """
        The guarded callable stands for the function itself, not for what chaos has made of it.
        """
        both = both_worlds("value", chaos=ChaosConfig(error=errors(0.0)))

        assert "chaotic" != both.guarded.__wrapped__.__name__
        assert not hasattr(both.guarded.__wrapped__, "__wrapped__")

    def test_in_words(self):
        """
        ``explain`` says what is injected how often.
        """
        config = ChaosConfig(
            error=errors(0.1, REFUSED, OVERLOAD),
            delay=ChaosDelay(rate=0.125, duration=3.0),
            result=ChaosResult(rate=1.0, value="x"),
            seed=7,
        )

        assert (
            "delays 12.5 % of the attempts by 3s, fails 10 % of the attempts with ERR_CONN_REFUSED, ERR_API_OVERLOAD, "
            "gives 'x' to 100 % of the attempts; seed 7"
        ) == config.in_words()
        assert "fails 10 % of the attempts with ERR_CONN_REFUSED" == ChaosConfig(error=errors(0.1)).in_words()


class TestBounds:
    def test_delay_is_within_the_latency(self):
        """
        The timeout, or the deadline, bounds a delayed attempt; generate() has its own delay besides what it calls.
        """
        chaos = ChaosConfig(delay=ChaosDelay(rate=0.5, duration=7.0))
        inner = TargetPolicy(deadline=10.0)
        targets = dict.fromkeys(("encoder.load", "encoder.forward", "lm_studio.chat"), inner)
        config = PolicyConfig(
            version=1,
            targets={
                **targets,
                "pixel_llm.generate": TargetPolicy(chaos=chaos),
                "shop.pay": TargetPolicy(timeout=TimeoutConfig(attempt=5.0), chaos=chaos),
            },
        )

        assert 37.0 == compute_bounds(config, "pixel_llm.generate").worst_latency
        assert 5.0 == compute_bounds(config, "shop.pay").worst_latency

    @pytest.mark.parametrize("target", ["pixel_llm.generate", "lm_studio.chat"])
    def test_nobody_knows_when_the_breaker_opens(self, target):
        """
        With chaos injected somewhere inside nothing is said of the breaker's opening.
        """
        breaker = CircuitBreakerConfig(failure_threshold=2)
        chat = TargetPolicy(circuit_breaker=breaker if target == "lm_studio.chat" else None)
        generate = TargetPolicy(circuit_breaker=breaker)
        calm = PolicyConfig(version=1, targets={"lm_studio.chat": chat, "pixel_llm.generate": generate})
        chaotic = dataclasses.replace(chat, chaos=ChaosConfig(error=errors(0.1)))
        bounds = compute_bounds(
            PolicyConfig(version=1, targets={"lm_studio.chat": chaotic, "pixel_llm.generate": generate}), target
        )

        assert compute_bounds(calm, target).opens_after is not None
        assert (None, None) == (bounds.opens_after, bounds.opens_after_silence)
