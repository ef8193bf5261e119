"""What a circuit breaker does to calls that go through a stack, in both worlds."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from pixel_llm.errors import APIError, CircuitBreakerOpen, ErrorCode, ValidationError
from pixel_llm.events import CallRefused, CallWouldBeRefused, CircuitStateChanged, RetryScheduled
from pixel_llm.policy import (
    BreakerMode,
    BulkheadConfig,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    Jitter,
    RateLimitConfig,
    RetryConfig,
    RetryStrategy,
    WindowConfig,
)
from pixel_llm.resilience import CircuitState, guard

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
LOST = ErrorCode.ERR_CONN_LOST


def gone():
    return ConnectionResetError("gone")


def breaker(**settings):
    return CircuitBreakerConfig(**{"failure_threshold": 1, "success_threshold": 1, **settings})


def steady(attempts=3, wait=1.0):
    return RetryConfig(
        strategy=RetryStrategy.FIXED_DELAY, max_attempts=attempts, initial_delay=wait, jitter=Jitter.NONE
    )


def fails(call, times=1, error=ConnectionResetError, *args):
    for _ in range(times):
        with pytest.raises(error):
            call(*args)


class TestRates:
    def test_open_it(self, both_worlds, events):
        """
        Successes and failures of calls are counted alike, whichever road they took.
        """
        config = CircuitBreakerConfig(failure_rate=0.5, minimum_calls=4, window=WindowConfig(calls=10))
        call = both_worlds("paid", gone(), "paid", gone(), circuit_breaker=config)
        call()
        fails(call)
        call()
        fails(call)

        assert OPEN is call.stack.breaker.state

        fails(call, error=CircuitBreakerOpen)

        assert 4 == call.calls
        assert CircuitStateChanged("shop.pay", "closed", "open", 1, LOST) in events

    @pytest.mark.parametrize("layers", [{}, {"retry": steady(wait=50.0)}, {"deadline": 1e4}], ids=lambda d: "+".join(d))
    def test_slow_calls_are_those_whose_attempt_was(self, both_worlds, clock, layers):
        """
        What counts is the time of the attempt; waits between attempts are no call time.
        """
        config = CircuitBreakerConfig(failure_threshold=99, slow_call_rate=1.0, slow_call_duration=5.0, minimum_calls=2)

        def step(seconds, result):
            def run():
                clock.advance(seconds)
                if isinstance(result, Exception):
                    raise result
                return result

            return run

        errors = [step(4.0, gone())] if "retry" in layers else []
        call = both_worlds(*errors, step(4.0, "paid"), step(6.0, "paid"), circuit_breaker=config, **layers)
        call()
        call()

        assert CLOSED is call.stack.breaker.state

        call.stack.breaker.reset()
        call()
        call()

        assert OPEN is call.stack.breaker.state

    @pytest.mark.parametrize("layers", [{}, {"bulkhead": BulkheadConfig()}, {"retry": steady()}])
    @pytest.mark.parametrize("nested", [False, True])
    def test_fast_calls_are_not_slow(self, both_worlds, world, clock, make_stack, layers, nested):
        """
        A call that takes no longer than slow_call_duration is not slow, on whichever road it is.
        """
        config = CircuitBreakerConfig(slow_call_rate=1.0, slow_call_duration=5.0, minimum_calls=1)
        inner = both_worlds(lambda: clock.advance(4.0), circuit_breaker=config, **layers)
        outer = guard(make_stack(deadline=60.0), world.calling(inner.guarded), cooperative=True)
        world.run(outer) if nested else inner()

        assert CLOSED is inner.stack.breaker.state

    def test_slow_calls_within_a_caller(self, both_worlds, world, clock, make_stack):
        """
        On the long road, which nested calls take, they are slow as well.
        """
        config = CircuitBreakerConfig(slow_call_rate=1.0, slow_call_duration=5.0, minimum_calls=1)
        inner = both_worlds(lambda: clock.advance(6.0), circuit_breaker=config)
        outer = guard(make_stack(deadline=60.0), world.calling(inner.guarded), cooperative=True)
        world.run(outer)

        assert OPEN is inner.stack.breaker.state


class TestTrials:
    def test_that_end_neutrally_make_room(self, both_worlds, clock):
        """
        A trial that ends with a wrong request proves nothing; the next one closes the breaker.
        """
        call = both_worlds(
            gone(), APIError("no", error_code=ErrorCode.ERR_API_BAD_REQUEST), "paid", circuit_breaker=breaker()
        )
        fails(call)
        clock.advance(60.05)
        fails(call, error=APIError)

        assert HALF_OPEN is call.stack.breaker.state

        call()

        assert CLOSED is call.stack.breaker.state

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
    def test_that_are_interrupted_make_room(self, both_worlds, clock, error):
        """
        Whatever breaks a trial off, its permit comes back.
        """
        call = both_worlds(gone(), error(), error(), "paid", circuit_breaker=breaker())
        fails(call)
        clock.advance(60.05)
        for _ in range(2):
            with pytest.raises((error, asyncio.CancelledError)):
                call()

        assert HALF_OPEN is call.stack.breaker.state

        call()

        assert CLOSED is call.stack.breaker.state

    def test_a_cancelled_task_makes_room(self, make_stack, clock):
        """
        A trial whose task is cancelled while it waits gives its permit back before the task is done.
        """
        stack = make_stack(circuit_breaker=breaker())
        stack.breaker.record_failure(stack.breaker.acquire(), gone())
        clock.advance(60.05)

        async def main():
            async def hang():
                await asyncio.get_running_loop().create_future()

            call = guard(stack, hang)
            task = asyncio.ensure_future(call())
            await asyncio.sleep(0)
            with pytest.raises(CircuitBreakerOpen, match="1 trial call is under way"):
                await call()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

            assert stack.breaker.allow_request()

        asyncio.run(main())

    def test_that_hang_do_not_block_for_ever(self, make_stack, clock):
        """
        After half_open_max_wait callers are told that the breaker is open; after a cooldown there is another trial,
        and what the hung one ends with settles nothing.
        """
        stack = make_stack(circuit_breaker=breaker(half_open_max_wait=30.0, cooldown=60.0))
        stack.breaker.record_failure(stack.breaker.acquire(), gone())
        clock.advance(60.05)
        go_on, inside = threading.Event(), threading.Event()

        def hang():
            inside.set()
            go_on.wait(10)
            raise gone()

        errors = []

        def run():
            try:
                guard(stack, hang, cooperative=True)()
            except ConnectionResetError as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        inside.wait(10)
        quick = guard(stack, lambda: "paid", cooperative=True)
        try:
            clock.advance(30.0)
            with pytest.raises(CircuitBreakerOpen, match="without a verdict for 30s"):
                quick()
            clock.advance(60.05)

            assert "paid" == quick()
        finally:
            go_on.set()
            thread.join(10)

        assert [ConnectionResetError] == [type(error) for error in errors]
        assert (CLOSED, 0) == (stack.breaker.state, stack.breaker.failures)

    def test_that_hang_do_not_block_tasks_for_ever(self, make_stack, clock):
        """
        The same with tasks.
        """
        stack = make_stack(circuit_breaker=breaker(half_open_max_wait=30.0, cooldown=60.0))
        stack.breaker.record_failure(stack.breaker.acquire(), gone())
        clock.advance(60.05)

        async def main():
            future = asyncio.get_running_loop().create_future()

            async def hang():
                await future

            async def pay():
                return "paid"

            task = asyncio.ensure_future(guard(stack, hang)())
            await asyncio.sleep(0)
            quick = guard(stack, pay)
            clock.advance(30.0)
            with pytest.raises(CircuitBreakerOpen, match="without a verdict for 30s"):
                await quick()
            clock.advance(60.05)

            assert "paid" == await quick()

            future.set_exception(gone())
            with pytest.raises(ConnectionResetError):
                await task

        asyncio.run(main())

        assert (CLOSED, 0) == (stack.breaker.state, stack.breaker.failures)


class TestModes:
    def test_shadow_refuses_nobody(self, both_worlds, clock, events):
        """
        Calls and retries go on as if there were no breaker; events say what it would have done.
        """
        config = breaker(mode=BreakerMode.SHADOW, cooldown=60.0)
        call = both_worlds(gone(), gone(), "paid", circuit_breaker=config, retry=steady())

        assert "paid" == call()
        assert CircuitStateChanged("shop.pay", "closed", "open", 1, LOST, shadow=True) in events
        assert [("circuit_breaker", ErrorCode.ERR_CB_OPEN, 59.0), ("circuit_breaker", ErrorCode.ERR_CB_OPEN, 58.0)] == [
            (event.layer, event.error_code, round(event.retry_after, 6))
            for event in events
            if isinstance(event, CallWouldBeRefused)
        ]
        assert not any(isinstance(event, CallRefused) for event in events)
        assert 2 == sum(type(event) is RetryScheduled for event in events)

        clock.advance(60.0)
        call()

        assert CLOSED is call.stack.breaker.state

    def test_forced_open_refuses_everybody(self, both_worlds, events):
        """
        Nothing is called, nothing is tried again, and the fallback serves.
        """
        config = breaker(mode=BreakerMode.FORCED_OPEN)
        call = both_worlds("paid", circuit_breaker=config, retry=steady())
        fails(call, 3, CircuitBreakerOpen)
        served = both_worlds(
            "paid", circuit_breaker=config, fallback=(FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="later"),)
        )

        assert ("later", 0, 0) == (served(), served.calls, call.calls)
        assert CallRefused("shop.pay", "circuit_breaker", ErrorCode.ERR_CB_OPEN, None) in events

    def test_disabled_does_nothing(self, both_worlds, events):
        """
        However often calls fail, all of them are made.
        """
        call = both_worlds(gone(), circuit_breaker=breaker(mode=BreakerMode.DISABLED))
        fails(call, 20)

        assert (20, CLOSED) == (call.calls, call.stack.breaker.state)
        assert not any(isinstance(event, CircuitStateChanged) for event in events)


class TestKeys:
    @pytest.fixture
    def ask(self, world, make_stack):
        """A guarded function of a model and a question, and its stack; models with a name in *down* fail."""

        def make(down=(), breaker_key=None, **layers):
            layers.setdefault("circuit_breaker", breaker(per="model", max_keys=3, cooldown=60.0))
            stack = make_stack(**layers)
            asked = []

            def answer(model, question="?"):
                asked.append(model)
                if model in down:
                    raise gone()
                return f"{model}: {question}"

            if world.name == "sync":

                def function(model, question="?"):
                    return answer(model, question)
            else:

                async def function(model, question="?"):
                    return answer(model, question)

            guarded = guard(stack, function, cooperative=True, breaker_key=breaker_key)

            def call(*args, **kwargs):
                made = guarded(*args, **kwargs)
                return made if world.name == "sync" else asyncio.run(_awaited(made))

            call.asked, call.stack, call.guarded = asked, stack, guarded
            return call

        return make

    def test_each_has_its_own_breaker(self, ask, events):
        """
        While one model is down the others are asked, and events say whose breaker it is.
        """
        call = ask(down={"small"})
        fails(call, 1, ConnectionResetError, "small")
        fails(call, 3, CircuitBreakerOpen, "small")

        assert "large: ?" == call("large")
        assert ["small", "large"] == call.asked
        assert CircuitStateChanged("shop.pay", "closed", "open", 1, LOST, breaker="small") in events

    def test_by_name_or_by_place(self, ask):
        """
        The argument is found however it is passed.
        """
        call = ask(down={"small"})
        with pytest.raises(ConnectionResetError):
            call(question="!", model="small")
        fails(call, 1, CircuitBreakerOpen, "small")

        assert ["small"] == [key for key, _ in call.stack.breakers.items()]

    def test_the_refusal_names_it(self, ask):
        """
        The message says which of the breakers refused.
        """
        call = ask(down={"small"})
        fails(call, 1, ConnectionResetError, "small")
        with pytest.raises(CircuitBreakerOpen, match=r"^shop.pay: circuit breaker of 'small' is open after 1 failure"):
            call("small")

    def test_retries_ask_the_same_one(self, ask, events):
        """
        A breaker that opens ends the retries of its own calls, and of no others.
        """
        config = CircuitBreakerConfig(failure_threshold=2, per="model")
        call = ask(down={"small", "tiny"}, circuit_breaker=config, retry=steady(attempts=5))
        fails(call, 1, ConnectionResetError, "small")
        fails(call, 1, ConnectionResetError, "tiny")

        assert ["small"] * 2 + ["tiny"] * 2 == call.asked

    def test_there_are_only_so_many(self, ask):
        """
        Beyond max_keys the closed one used longest ago is forgotten; the open one stays.
        """
        call = ask(down={"small"})
        fails(call, 1, ConnectionResetError, "small")
        for model in ("a", "b", "c", "d"):
            call(model)

        assert ["small", "c", "d"] == [key for key, _ in call.stack.breakers.items()]

    def test_a_trial_gives_its_own_permit_back(self, ask, clock):
        """
        Success, neutral ends and failures settle with the breaker of the call's key.
        """
        down = {"small", "tiny"}
        call = ask(down=down)
        fails(call, 1, ConnectionResetError, "small")
        fails(call, 1, ConnectionResetError, "tiny")
        clock.advance(60.05)
        down.discard("small")
        call("small")
        fails(call, 1, ConnectionResetError, "tiny")

        assert {"small": CLOSED, "tiny": OPEN} == {key: found.state for key, found in call.stack.breakers.items()}

    @pytest.mark.parametrize(
        "breaker_key", [lambda model, question="?": model[0], {"model": lambda model, question="?": model[0]}]
    )
    def test_a_program_says_how_it_is_found(self, ask, breaker_key):
        """
        A function of the arguments, or one for each thing that the policy may say.
        """
        call = ask(down={"small"}, breaker_key=breaker_key)
        fails(call, 1, ConnectionResetError, "small")
        fails(call, 1, CircuitBreakerOpen, "smaller")

        assert "large: ?" == call("large")

    def test_a_function_that_nobody_needs_is_not_called(self, ask):
        """
        With one breaker for the target the program may say how keys are found all the same.
        """
        call = ask(circuit_breaker=breaker(), breaker_key=lambda *_: 1 / 0)

        assert "large: ?" == call("large")

    def test_a_wrong_key_is_seen_before_anything_happens(self, ask, world):
        """
        What can't be a key is a mistake of the program's: the function is not called.
        """
        call = ask()
        with pytest.raises(
            ValidationError, match=r"^shop.pay: this call has no key for its circuit breaker: TypeError"
        ):
            call(["small"])

        assert [] == call.asked

    def test_nothing_says_how_it_is_found(self, ask):
        """
        A function without such an argument needs breaker_key=, and wrapping it says so.
        """
        with pytest.raises(ValidationError, match="is per endpoint, but the function has no argument") as caught:
            ask(circuit_breaker=breaker(per="endpoint"))

        assert ErrorCode.ERR_VAL_MISSING_FIELD is caught.value.error_code
        assert "no argument 'endpoint': wrapping it needs breaker_key=, a function that gives" in str(caught.value)

        with pytest.raises(
            ValidationError, match="is per endpoint, but breaker_key= only knows model or user"
        ) as caught:
            ask(circuit_breaker=breaker(per="endpoint"), breaker_key={"user": str, "model": str})

        assert ErrorCode.ERR_VAL_MISSING_FIELD is caught.value.error_code

        with pytest.raises(ValidationError, match="but breaker_key= only knows nothing"):
            ask(breaker_key={})
        with pytest.raises(ValidationError, match="breaker_key= must be a plain function, or a map of them"):
            ask(breaker_key="model")

    @pytest.mark.parametrize(
        ("function", "args", "kwargs", "key"),
        [
            (lambda question, model="default": None, ("?",), {}, "default"),
            (lambda question, *, model: None, ("?",), {"model": "m"}, "m"),
            (lambda model, /, **more: None, ("m",), {}, "m"),
            (lambda **more: None, (), {"model": "m"}, "m"),
            (lambda **more: None, (), {}, None),
            (lambda *models, **more: None, ("a", "b"), {}, None),
        ],
    )
    def test_wherever_the_argument_stands(self, make_stack, function, args, kwargs, key):
        """
        By place, by name, by default, or among those that a function takes whatever they are called.
        """
        stack = make_stack(circuit_breaker=breaker(per="model"))
        guard(stack, function, cooperative=True)(*args, **kwargs)

        assert [key] == [found for found, _ in stack.breakers.items()]

    def test_of_a_function_that_does_not_say_its_arguments(self, make_stack):
        """
        Some built-in functions have no signature to look into.
        """
        with pytest.raises(ValidationError, match="needs breaker_key="):
            guard(make_stack(circuit_breaker=breaker(per="model")), dict, cooperative=True)

    def test_of_a_method(self, make_stack):
        """
        The object that a method belongs to shifts nothing.
        """
        stack = make_stack(circuit_breaker=breaker(per="model"))

        def ask(self, model):
            return model

        ask.__qualname__ = "Client.ask"

        class Client:
            pass

        Client.ask = guard(stack, ask, cooperative=True)
        client = Client()

        assert ("m", "k") == (client.ask("m"), client.ask(model="k"))
        assert ["m", "k"] == [key for key, _ in stack.breakers.items()]

    def test_a_fallback_s_other_model_has_one_for_itself(self, both_worlds, world):
        """
        A step that asks another model knows which one it is, whatever the keys of the target are.
        """
        other = world.function(lambda *_: "other")
        call = both_worlds(
            gone(),
            circuit_breaker=breaker(per="model"),
            fallback=(FallbackStep(FallbackStrategy.MODEL, value="small"),),
            options={"breaker_key": lambda *_: "large", "alternative": lambda kind, name: other},
        )

        assert ["other", "other", "other"] == [call() for _ in range(3)]
        assert (1, CLOSED) == (call.calls, call.stack.alternative(0).breaker.state)

    def test_the_target_s_own_gate_is_none(self, make_stack):
        """
        Nobody passes by asking the target rather than the call.
        """
        stack = make_stack(circuit_breaker=breaker(per="model"))
        for ask in (stack.gate.acquire, stack.gate.check, stack.gate.would_refuse):
            with pytest.raises(RuntimeError, match="ask that of the call"):
                ask()

    def test_in_threads_at_once(self, make_stack):
        """
        However many threads ask first for the same key, there is one breaker of it.
        """
        stack = make_stack(circuit_breaker=breaker(per="model", max_keys=5))
        call = guard(stack, lambda model: model, cooperative=True)
        threads = [threading.Thread(target=lambda n=n: [call(f"m{(n + i) % 4}") for i in range(200)]) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

        assert {"m0", "m1", "m2", "m3"} == {key for key, _ in stack.breakers.items()}


async def _awaited(coroutine):
    return await coroutine


class TestCallsFromBefore:
    @pytest.mark.parametrize(
        "layers",
        [{}, {"bulkhead": BulkheadConfig()}, {"rate_limit": RateLimitConfig(max_calls=9, period=1.0)}],
        ids=["alone", "in a slot", "in its turn"],
    )
    @pytest.mark.parametrize("end", ["paid", gone(), ValueError("mistake")], ids=["success", "failure", "neutral"])
    def test_say_nothing_of_trials(self, both_worlds, clock, layers, end):
        """
        A call that was let in before the breaker opened is no trial, however it ends in the half-open one.
        """

        def pays_late():
            breaker = call.stack.breaker
            breaker.record_failure(breaker.acquire(), gone())
            clock.advance(60.0)
            breaker.record_success(breaker.acquire())
            breaker.acquire()  # a second trial is under way
            assert HALF_OPEN is breaker.state
            if isinstance(end, Exception):
                raise end
            return end

        call = both_worlds(pays_late, circuit_breaker=breaker(success_threshold=2, half_open_max_calls=1), **layers)
        with contextlib.suppress(ConnectionResetError, ValueError):
            call()

        assert HALF_OPEN is call.stack.breaker.state
        with pytest.raises(CircuitBreakerOpen, match="1 trial call is under way"):
            call()
