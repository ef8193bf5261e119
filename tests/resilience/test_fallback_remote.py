"""The fallback steps that call something: functions, other targets, other models and endpoints."""

import asyncio
import contextlib
import threading

import pytest

from pixel_llm.errors import CircuitBreakerOpen, ConnectionError, ErrorCode, ValidationError
from pixel_llm.events import CallFailed, CircuitStateChanged, FallbackServed, FallbackSkipped
from pixel_llm.policy import (
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
)
from pixel_llm.resilience import Limits, SkippedStep, Stack, current_limits, guard
from pixel_llm.resilience.fallbacks.wrapped import WrappedTargets

LOST = ErrorCode.ERR_CONN_LOST
SORRY = FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="sorry")
ONCE = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=2)


def gone(*args, **kwargs):
    return ConnectionError("gone", error_code=LOST)


def fail(*args, **kwargs):
    raise gone()


def custom(name, **more):
    return FallbackStep(FallbackStrategy.CUSTOM_FUNCTION, value=name, **more)


def target(name, **more):
    return FallbackStep(FallbackStrategy.TARGET, value=name, **more)


def model(name, **more):
    return FallbackStep(FallbackStrategy.MODEL, value=name, **more)


def endpoint(address, **more):
    return FallbackStep(FallbackStrategy.ENDPOINT, value=address, **more)


@pytest.fixture
def stack(clock, events):
    """A stack whose policy names functions and targets that are there."""

    def make(*steps, functions=None, wrapped=None, name="shop.pay", **layers):
        layers = {"fallback": steps, **layers} if steps else layers
        return Stack(
            name,
            TargetPolicy(**layers),
            clock=clock,
            emit=events.append,
            find_function=lambda name: (functions or {})[name],
            wrapped=wrapped,
        )

    return make


@pytest.fixture
def call(both_worlds, stack):
    """Puts a stack with these fallback steps around what the case scripts, by default a failure."""

    def make(*steps, script=None, options=None, **more):
        script = (gone(),) if script is None else script
        return both_worlds(*script, stack=stack(*steps, **more), options=options)

    return make


class TestCustomFunction:
    def test_serves_with_the_arguments_of_the_call(self, call):
        """
        The function gets what the call got, and the outcome names it.
        """
        found = call(custom("apologise"), functions={"apologise": lambda *args: ["sorry", *args]}).outcome("visa", 3)

        assert ["sorry", "visa", 3] == found.value
        assert ("custom_function:apologise", True, 1) == (found.served_by, found.degraded, found.attempts)
        assert LOST is found.error.error_code

    @pytest.mark.parametrize(
        "function",
        [lambda *args, error: (args, error), lambda card, error=None: ((card,), error)],
        ids=["keyword only", "by name"],
    )
    def test_gets_the_error_if_it_asks_for_it(self, call, function):
        """
        A parameter ``error`` is given what the call failed of.
        """
        error = gone()

        assert (("visa",), error) == call(custom("f"), functions={"f": function}, script=(error,))("visa")

    @pytest.mark.parametrize("function", [lambda *args, **more: more, dict], ids=["any keywords", "no signature"])
    def test_does_not_get_it_unasked(self, call, function):
        """
        Any keywords are not a wish for the error, and what has no signature has no wishes.
        """

        assert {} == call(custom("f"), functions={"f": function})()

    def test_an_argument_of_the_call_named_error_stands(self, world, stack, scripted):
        """
        Where the call has an argument of that name, the function gets that one.
        """
        guarded = guard(stack(custom("f"), functions={"f": lambda *, error: error}), raising(world))

        assert "mine" == run(world, guarded, error="mine")

    def test_one_that_fails_leaves_it_to_the_next_step(self, call, events):
        """
        The next step serves, and the outcome says why the function did not.
        """

        def broken(*args):
            raise KeyError("x")

        found = call(custom("broken"), SORRY, functions={"broken": broken}).outcome()
        reason = "failed of KeyError: 'x'"

        assert ("sorry", (SkippedStep("custom_function:broken", reason),)) == (found.value, found.skipped)
        assert [
            FallbackSkipped("shop.pay", "custom_function:broken", reason),
            FallbackServed("shop.pay", "default_value", LOST, None),
        ] == events[-2:]

    def test_the_last_that_fails_raises_the_call_s_own_error(self, call):
        """
        What a fallback fails of is not what the call has failed of.
        """
        error = gone()
        with pytest.raises(ConnectionError) as caught:
            call(custom("f"), functions={"f": lambda: 1 / 0}, script=(error,))()

        assert error is caught.value

    def test_an_error_without_text(self, call):
        """
        Errors whose text fails, is long or is empty are told all the same.
        """

        class Mute(Exception):
            def __str__(self):
                raise RuntimeError

        def raising(error):
            def function():
                raise error

            return function

        functions = {"mute": raising(Mute()), "empty": raising(KeyError()), "long": raising(ValueError("x" * 600))}
        found = call(custom("mute"), custom("empty"), custom("long"), SORRY, functions=functions).outcome()

        assert ["failed of Mute: <its text failed>", "failed of KeyError"] == [s.reason for s in found.skipped[:2]]
        assert 500 == len(found.skipped[2].reason)

    def test_is_asked_only_for_errors_that_it_serves_for(self, call):
        """
        ``when`` holds for it as for any step.
        """
        calls = []
        found = call(custom("f"), functions={"f": lambda: calls.append(1)}, script=(TypeError("a mistake"),))
        with pytest.raises(TypeError):
            found()

        assert [] == calls

    def test_an_async_one_in_the_async_world(self, stack):
        """
        It is awaited.
        """

        async def apologise(card, *, error):
            await asyncio.sleep(0)
            return f"sorry, {card}: {error.message}"

        async def pay(card):
            raise gone()

        guarded = guard(stack(custom("f"), functions={"f": apologise}), pay)

        assert "sorry, visa: gone" == asyncio.run(guarded("visa"))

    def test_an_async_one_in_the_sync_world(self, stack):
        """
        A sync call can't await: that is said when it is wrapped.
        """

        async def apologise():
            raise AssertionError

        class Apologises:
            async def __call__(self):
                raise AssertionError

        with pytest.raises(ValidationError, match="names f, an async function, which a sync one can't await"):
            guard(stack(custom("f"), functions={"f": Apologises()}), fail)
        with pytest.raises(ValidationError, match="names f, an async function, which a sync one can't await"):
            guard(stack(custom("f"), functions={"f": apologise}), fail)

    def test_a_sync_one_that_returns_a_coroutine(self, stack):
        """
        What nobody would await did not serve; it is closed.
        """

        async def later():
            raise AssertionError

        found = guard(stack(custom("f"), SORRY, functions={"f": lambda: later()}), fail).outcome()

        assert "sorry" == found.value
        assert "it returned a coroutine, which a sync call can't run" in found.skipped[0].reason

    def test_a_generator_of_the_sync_world(self, stack):
        """
        Nor does a generator serve.
        """

        def later():
            yield 1

        assert "sorry" == guard(stack(custom("f"), SORRY, functions={"f": later}), fail)()


def raising(world):
    """A function that takes anything and fails."""
    if world.name == "sync":
        return fail

    async def function(*args, **kwargs):
        raise gone()

    return function


def run(world, guarded, *args, **kwargs):
    if world.name == "sync":
        return guarded(*args, **kwargs)

    async def main():
        return await guarded(*args, **kwargs)

    return asyncio.run(main())


class TestTarget:
    def test_is_called_through_its_own_stack(self, call, stack, world, scripted):
        """
        Another target serves with its own retries, and with the arguments of the call.
        """
        wrapped = WrappedTargets(["shop.later"])
        other = scripted(gone(), "later")
        guard(stack(name="shop.later", retry=ONCE, wrapped=wrapped), world.function(other))
        found = call(target("shop.later"), wrapped=wrapped).outcome("visa")

        assert ("later", "target:shop.later", True) == (found.value, found.served_by, found.degraded)
        assert [("visa",), ("visa",)] == other.arguments

    def test_one_that_fails(self, call, stack, world, scripted):
        """
        Its failure goes to the next step, with the code of its error.
        """
        wrapped = WrappedTargets(["shop.later"])
        guard(stack(name="shop.later", wrapped=wrapped), world.function(scripted(gone())))
        found = call(target("shop.later"), SORRY, wrapped=wrapped).outcome()

        assert (SkippedStep("target:shop.later", "failed of ERR_CONN_LOST: gone"),) == found.skipped

    @pytest.mark.parametrize("wrapped", [None, WrappedTargets(["shop.later"])], ids=["no registry", "not wrapped"])
    def test_one_that_was_not_wrapped(self, call, wrapped):
        """
        What the program never wrapped is skipped, and that is said.
        """
        found = call(target("shop.later"), SORRY, wrapped=wrapped).outcome()

        assert (SkippedStep("target:shop.later", "the program has not wrapped this target"),) == found.skipped

    def test_an_async_one_in_the_sync_world(self, stack):
        """
        A sync call can't await it.
        """
        wrapped = WrappedTargets(["shop.later"])

        async def later():
            raise AssertionError

        guard(stack(name="shop.later", wrapped=wrapped), later)
        found = guard(stack(target("shop.later"), SORRY, wrapped=wrapped), fail).outcome()

        assert "as an async function, which a sync call can't await" in found.skipped[0].reason

    def test_a_sync_one_in_the_async_world(self, stack):
        """
        It runs in a thread, so that the loop goes on, and sees the time that is left.
        """
        wrapped = WrappedTargets(["shop.later"])
        seen = []

        def later(card):
            seen.append((threading.current_thread() is threading.main_thread(), current_limits().deadline is not None))
            return f"later, {card}"

        async def pay(card):
            raise gone()

        guard(stack(name="shop.later", wrapped=wrapped), later)
        guarded = guard(stack(target("shop.later"), deadline=10.0, wrapped=wrapped), pay)

        assert "later, visa" == asyncio.run(guarded("visa"))
        assert [(False, True)] == seen

    def test_what_no_fallback_names_is_not_kept(self, stack):
        """
        A program that wraps thousands of callables keeps none alive by that.
        """
        wrapped = WrappedTargets(["shop.later"])
        guard(stack(name="shop.other", wrapped=wrapped), fail)

        assert wrapped.find("shop.other", is_async=False) is None


class Elsewhere:
    """Makes the same call with another model or at another endpoint."""

    def __init__(self, world, scripted, *steps):
        self.asked = []
        self.script = scripted(*steps)
        self._world = world

    def __call__(self, kind, name):
        self.asked.append((kind, name))
        return self._world.function(self.script)


@pytest.fixture
def elsewhere(world, scripted):
    return lambda *steps: Elsewhere(world, scripted, *steps)


class TestAnotherModelOrEndpoint:
    @pytest.mark.parametrize(
        ("step", "kind", "name"),
        [(model("small"), "model", "small"), (endpoint("http://127.0.0.1:9/v1"), "endpoint", "http://127.0.0.1:9/v1")],
    )
    def test_the_same_call_is_made_there(self, call, elsewhere, step, kind, name):
        """
        ``alternative`` gives the callable, which gets the arguments of the call.
        """
        other = elsewhere("answer")
        found = call(step, options={"alternative": other}).outcome("visa")

        assert ("answer", f"{kind}:{name}", True) == (found.value, found.served_by, found.degraded)
        assert ([(kind, name)], [("visa",)]) == (other.asked, other.script.arguments)

    def test_it_is_asked_for_when_it_is_needed(self, call, elsewhere):
        """
        While all is well nothing is made; then it is made once.
        """
        other = elsewhere("answer")
        guarded = call(model("small"), options={"alternative": other}, script=("paid", gone(), gone()))
        guarded()
        before = list(other.asked)
        guarded()
        guarded()

        assert ([], [("model", "small")]) == (before, other.asked)

    def test_it_is_tried_once_whatever_retry_says(self, call, elsewhere):
        """
        A fallback is no second round of retries.
        """
        other = elsewhere(gone())
        guarded = call(model("small"), SORRY, options={"alternative": other}, retry=ONCE)

        assert ("sorry", 2, 1) == (guarded(), guarded.calls, other.script.calls)

    def test_it_has_a_breaker_of_its_own(self, call, elsewhere, events):
        """
        What is wrong with one server opens no breaker of another; its refusal goes to the next step.
        """
        other = elsewhere(gone())
        breaker = CircuitBreakerConfig(failure_threshold=2)
        script = ("paid", gone(), "paid", gone(), "paid", gone())
        guarded = call(model("small"), SORRY, options={"alternative": other}, circuit_breaker=breaker, script=script)
        skipped = [outcome.skipped for outcome in [guarded.outcome() for _ in range(6)] if outcome.degraded]

        assert 2 == other.script.calls
        assert "failed of ERR_CB_OPEN: circuit breaker is open" in skipped[2][0].reason
        assert ["shop.pay[model=small]"] == [e.target for e in events if isinstance(e, CircuitStateChanged)]
        assert "closed" == guarded.stack.breaker.state

    def test_the_target_s_open_breaker_does_not_stop_it(self, call, elsewhere):
        """
        The very use of it: the main model's breaker is open, the other one answers.
        """
        guarded = call(
            model("small"),
            options={"alternative": elsewhere("answer")},
            circuit_breaker=CircuitBreakerConfig(failure_threshold=1),
        )
        found = [guarded.outcome(), guarded.outcome()]

        assert [("answer", 1), ("answer", 0)] == [(outcome.value, outcome.attempts) for outcome in found]
        assert isinstance(found[1].error, CircuitBreakerOpen)

    def test_all_that_is_wrapped_for_a_target_shares_its_breaker(self, stack, world, elsewhere):
        """
        Two callables of one target know what the other one found.
        """
        one = stack(model("small"), SORRY, circuit_breaker=CircuitBreakerConfig(failure_threshold=1))
        other = elsewhere(gone())
        for _ in range(2):
            run(world, guard(one, raising(world), alternative=other))

        assert 1 == other.script.calls

    def test_without_alternative_it_can_not_be_wrapped(self, stack):
        """
        What can't serve is said at once.
        """
        with pytest.raises(ValidationError, match="names another endpoint, so wrapping it needs alternative="):
            guard(stack(endpoint("http://127.0.0.1:9/v1")), fail)

    def test_a_fault_of_alternative_goes_to_the_next_step(self, call):
        """
        As any failure of the step does.
        """

        def broken(kind, name):
            raise ValidationError("no such model")

        found = call(model("small"), SORRY, options={"alternative": broken}).outcome()

        assert ("sorry", "failed of ERR_VAL_INVALID_INPUT: no such model") == (
            found.value,
            found.skipped[0].reason,
        ) or ("no such model" in found.skipped[0].reason)

    def test_only_a_chain_has_one(self, stack):
        """
        A stack without a fallback has no calls elsewhere.
        """
        with pytest.raises(LookupError):
            stack().alternative(0)


class TestTime:
    def deadlines(self, call, clock, *steps, spent, deadline=10.0, options=None, **more):
        """The deadlines, as seconds from the start, that the call and each of its functions see."""
        started, seen = clock.monotonic(), []

        def note(*args):
            ends = current_limits().deadline
            seen.append(None if ends is None else pytest.approx(ends - started))
            clock.advance(spent)
            raise gone()

        functions = {"first": note, "second": note}
        with contextlib.suppress(ConnectionError):
            call(*steps, functions=functions, script=(note,), deadline=deadline, **more)()
        return seen

    def test_steps_share_the_deadline(self, call, clock):
        """
        What is left of it is theirs.
        """

        assert [10.0, 10.0, 10.0] == self.deadlines(call, clock, custom("first"), custom("second"), spent=3)

    def test_reserve_is_kept_for_the_step(self, call, clock):
        """
        The call ends earlier by all that is kept, each step by what is kept for those after it.
        """
        steps = custom("first", reserve=2.0), custom("second", reserve=3.0)

        assert [5.0, 7.0, 10.0] == self.deadlines(call, clock, *steps, spent=1)

    def test_without_a_deadline_there_is_nothing_to_keep(self, call, clock):
        """
        No deadline, no limit.
        """

        assert [None, None] == self.deadlines(call, clock, custom("first", reserve=2.0), spent=1, deadline=None)

    def test_a_step_is_skipped_once_its_time_has_passed(self, call, clock):
        """
        Steps that call something don't run past the deadline; those that don't still serve.
        """

        def slow():
            clock.advance(10)
            raise gone()

        found = call(custom("f"), SORRY, functions={"f": fail}, script=(slow,), deadline=10.0).outcome()

        assert ("sorry", (SkippedStep("custom_function:f", "the deadline has passed"),)) == (found.value, found.skipped)

    def test_a_reserved_step_serves_after_a_timeout(self, call, clock):
        """
        What reserve is for: the call has used up all its time, and the step still has its own.
        """

        def slow():
            clock.advance(8)
            raise gone()

        found = call(
            custom("f", reserve=2.0), functions={"f": lambda: "late"}, script=(slow,), retry=ONCE, deadline=10.0
        ).outcome()

        assert ("late", 1) == (found.value, found.attempts)

    def test_the_error_says_what_was_kept(self, call, clock):
        """
        A call that ends before its deadline says why.
        """
        found = call(
            custom("f", reserve=2.0),
            functions={"f": lambda: "late"},
            script=(gone(),),
            deadline=2.0,
        ).outcome()

        assert "the deadline of 2 s, less the 2 s kept for the fallback, has passed" == found.error.message
        assert ("late", 0) == (found.value, found.attempts)

    def test_the_caller_s_deadline_is_kept_from_too(self, call, stack, world, clock):
        """
        A nested target keeps its reserve of what its caller has left.
        """
        started, seen = clock.monotonic(), []

        def note():
            seen.append(current_limits().deadline - started)
            raise gone()

        inner = call(custom("f", reserve=2.0), functions={"f": note}, script=(note,))
        outer = guard(stack(SORRY, name="shop.order", deadline=6.0), world.calling(inner.guarded))
        run(world, outer)

        assert [pytest.approx(4.0), pytest.approx(6.0)] == seen

    def test_an_async_step_is_cut_at_the_deadline(self, stack):
        """
        Its task is cancelled, and the next step serves.
        """
        cancelled = []

        async def hang():
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        async def pay():
            raise gone()

        stack = Stack(
            "shop.pay",
            TargetPolicy(deadline=0.05, fallback=(custom("f"), SORRY)),
            find_function=lambda name: hang,
        )
        found = asyncio.run(guard(stack, pay).outcome())

        assert ("sorry", [True]) == (found.value, cancelled)
        assert "failed of ERR_TIMEOUT_DEADLINE: its time was up" == found.skipped[0].reason

    def test_an_async_step_without_a_deadline(self, stack):
        """
        It takes the time it takes.
        """

        async def slow():
            await asyncio.sleep(0.001)
            return "late"

        async def pay():
            raise gone()

        assert "late" == asyncio.run(guard(stack(custom("f"), functions={"f": slow}), pay)())

    def test_the_timeout_bounds_the_attempt_elsewhere(self, call, elsewhere, clock):
        """
        The call that is made elsewhere has the target's timeout.
        """
        started, seen = clock.monotonic(), []

        def note():
            seen.append(current_limits())
            return "answer"

        other = elsewhere(note)
        call(model("small"), options={"alternative": other}, timeout=TimeoutConfig(attempt=3.0), deadline=9.0)()

        assert [Limits(clock, pytest.approx(started + 9), pytest.approx(started + 3), None, True)] == seen

    def test_what_a_step_has_started_is_no_longer_bound(self, call):
        """
        A background task of a step that has served outlives the call.
        """
        kept = []

        def function():
            import contextvars

            kept.append(contextvars.copy_context())
            return "ok"

        call(custom("f"), functions={"f": function}, deadline=5.0)()

        assert Limits() == kept[0].run(current_limits)


class TestEnding:
    @pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()], ids=lambda error: type(error).__name__)
    def test_what_ends_the_program_passes(self, call, error):
        """
        No step serves for it, and no later step is tried.
        """

        def stop():
            raise error

        with pytest.raises(type(error)):
            call(custom("f"), SORRY, functions={"f": stop})()

    def test_cancelling_ends_the_step(self, stack):
        """
        A cancelled call ends as cancelled; nothing serves in its place.
        """
        running = asyncio.Event()

        async def hang():
            running.set()
            await asyncio.sleep(60)

        async def pay():
            raise gone()

        async def main():
            task = asyncio.create_task(guard(stack(custom("f"), SORRY, functions={"f": hang}), pay)())
            await running.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return len(asyncio.all_tasks())

        assert 1 == asyncio.run(main())

    def test_nothing_is_kept_alive(self, stack, world):
        """
        The error of a call whose steps all failed is gone with its handler.
        """
        guarded = guard(stack(custom("f"), functions={"f": fail}), raising(world))

        assert world.error_dies(guarded)

    def test_the_call_has_failed_once(self, call, events):
        """
        The failure is reported before its fallback runs, and once.
        """
        call(custom("f"), functions={"f": lambda: len(events)})()

        assert 1 == sum(isinstance(event, CallFailed) for event in events)
