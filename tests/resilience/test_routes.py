"""Calls that several places can answer: the pass over them, and the layers that each place has for itself."""

from __future__ import annotations

import asyncio
import gc

import pytest

from pixel_llm.errors import (
    APIError,
    CircuitBreakerOpen,
    ConnectionError,
    ErrorCode,
    LimitExceeded,
    TimeoutError,
    ValidationError,
)
from pixel_llm.policy import (
    BreakerMode,
    BulkheadConfig,
    CircuitBreakerConfig,
    FallbackStep,
    FallbackStrategy,
    HedgeConfig,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
)
from pixel_llm.resilience import Stack, guard
from pixel_llm.resilience.routes.passing import may_be_better_elsewhere
from pixel_llm.resilience.routes.routes import Routes
from pixel_llm.testing import VirtualClock

FIRST, SECOND, THIRD = "http://a/v1", "http://b/v1", "http://c/v1"
QUICK = CircuitBreakerConfig(failure_threshold=1, cooldown=30.0)
TWICE = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=2)


def refused():
    return ConnectionError("refused", error_code=ErrorCode.ERR_CONN_REFUSED)


def lost():
    return ConnectionError("lost", error_code=ErrorCode.ERR_CONN_LOST)


def unknown_model():
    return APIError("no such model", error_code=ErrorCode.ERR_API_MODEL_NOT_FOUND)


def bad_request():
    return APIError("wrong", error_code=ErrorCode.ERR_API_BAD_REQUEST)


class Guide:
    """Asks in a fixed order, and writes down what it hears."""

    def __init__(self, names):
        self.names = list(names)
        self.heard = []
        self.args = []
        self.trouble = {}

    def order(self, args):
        return list(self.names)

    def prepare(self, name, args):
        self.heard.append(("prepare", name))
        self.args.append(args)
        if name in self.trouble:
            raise self.trouble[name]

    async def prepare_async(self, name, args):
        await asyncio.sleep(0)
        self.prepare(name, args)

    def enter(self, name):
        self.heard.append(("enter", name))

    def leave(self, name):
        self.heard.append(("leave", name))

    def answered(self, name, args):
        self.heard.append(("answered", name))
        self.args.append(args)

    def failed(self, name, error):
        self.heard.append(("failed", name, type(error).__name__))


class Servers:
    """Places that do what their script says, behind one stack, in one of four ways: calls and streams, both worlds."""

    def __init__(self, way, clock, layers, scripts, **options):
        self.way, self.clock = way, clock
        self.events = []
        self.stack = Stack("lm.ask", TargetPolicy(**layers), clock=clock, emit=self.events.append)
        self.scripts = {name: list(steps) for name, steps in scripts.items()}
        self.asked = []
        self.guide = Guide(scripts)
        self.guarded = self.guard(self.stack, **options)

    def guard(self, stack, **options):
        functions = {name: self._function(name) for name in self.scripts}
        routes = Routes(functions, self.guide)
        return guard(stack, next(iter(functions.values())), cooperative=True, routes=routes, **options)

    def _step(self, name):
        self.asked.append(name)
        steps = self.scripts[name]
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        if isinstance(step, BaseException):
            raise step
        return step() if callable(step) else step

    def _function(self, name):
        def call(*args):
            return self._step(name)

        async def call_async(*args):
            await asyncio.sleep(0)
            return self._step(name)

        def stream(*args):
            yield from self._step(name).split("|")

        async def stream_async(*args):
            for piece in self._step(name).split("|"):
                yield piece

        return {"sync": call, "async": call_async, "stream": stream, "async stream": stream_async}[self.way]

    def __call__(self, *args):
        return self.outcome(*args)[0]

    def outcome(self, *args):
        """What was given, and the outcome."""
        if self.way == "sync":
            outcome = self.guarded.outcome(*args)
            return outcome.value, outcome
        if self.way == "async":
            outcome = asyncio.run(self.guarded.outcome(*args))
            return outcome.value, outcome
        if self.way == "stream":
            stream = self.guarded(*args)
            return "|".join(stream), stream.outcome()

        async def read():
            stream = self.guarded(*args)
            return "|".join([piece async for piece in stream]), stream.outcome()

        return asyncio.run(read())

    def breaker(self, name):
        return self.stack.over_routes.breakers_by_place()[name]


@pytest.fixture(params=["sync", "async", "stream", "async stream"])
def servers(request, clock):
    def make(scripts, *, options=None, **layers):
        return Servers(request.param, clock, layers, scripts, **(options or {}))

    return make


class TestPass:
    def test_the_first_place_answers(self, servers):
        """
        Where the first place answers, no other is asked.
        """
        places = servers({FIRST: ["one"], SECOND: ["two"]})

        assert "one" == places("what")
        assert [FIRST] == places.asked
        assert [("what",)] * 2 == places.guide.args
        assert {} == places.stack.over_routes.breakers_by_place()
        assert [("enter", FIRST), ("prepare", FIRST), ("answered", FIRST), ("leave", FIRST)] == places.guide.heard

    @pytest.mark.parametrize("error", [refused(), unknown_model()])
    def test_the_next_place_is_asked_at_once(self, servers, clock, error):
        """
        What another place may answer better is asked there, without a wait.
        """
        places = servers({FIRST: [error], SECOND: ["two"]}, retry=RetryConfig(initial_delay=5.0))

        value, outcome = places.outcome()

        assert "two" == value
        assert [FIRST, SECOND] == places.asked
        assert 2 == outcome.attempts
        assert not outcome.degraded
        assert [] == clock.sleeps

    def test_a_wrong_request_is_asked_once(self, servers):
        """
        The same request would be wrong everywhere.
        """
        places = servers({FIRST: [bad_request()], SECOND: ["two"]})

        with pytest.raises(APIError) as raised:
            places()

        assert [FIRST] == places.asked
        assert 1 == raised.value.attempts
        assert "endpoints" not in raised.value.details

    def test_the_error_tells_what_failed_where(self, servers):
        """
        The error of a pass is the last one's, with what failed where in its details.
        """
        places = servers({FIRST: [refused()], SECOND: [lost()]})

        with pytest.raises(ConnectionError) as raised:
            places()

        assert ErrorCode.ERR_CONN_LOST is raised.value.error_code
        assert 2 == raised.value.attempts
        assert {
            FIRST: "ERR_CONN_REFUSED: refused",
            SECOND: "ERR_CONN_LOST: lost",
        } == raised.value.details["endpoints"]

    def test_what_another_pass_may_mend_is_raised(self, servers):
        """
        An unknown model on the last server does not hide that the first one may come back.
        """
        places = servers({FIRST: [refused(), "one"], SECOND: [unknown_model()]}, retry=TWICE)

        value, outcome = places.outcome()

        assert "one" == value
        assert [FIRST, SECOND, FIRST] == places.asked
        assert 3 == outcome.attempts

    def test_the_retry_makes_another_pass(self, servers):
        """
        Each attempt of the retry goes over all places.
        """
        places = servers({FIRST: [refused()], SECOND: [lost()]}, retry=TWICE)

        with pytest.raises(ConnectionError) as raised:
            places()

        assert [FIRST, SECOND, FIRST, SECOND] == places.asked
        assert 4 == raised.value.attempts

    def test_no_time_no_next_place(self, servers, clock):
        """
        When the deadline has passed, no further place is asked.
        """

        def slow():
            clock.advance(10.0)
            raise lost()

        places = servers({FIRST: [slow], SECOND: ["two"]}, deadline=10.0)

        with pytest.raises((ConnectionError, TimeoutError)):
            places()

        assert [FIRST] == places.asked

    def test_the_fallback_is_around_all_places(self, servers):
        """
        The fallback serves when no place has answered.
        """
        sorry = FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="sorry")
        places = servers({FIRST: [refused()], SECOND: [refused()]}, fallback=(sorry,))

        value, outcome = places.outcome()

        assert "sorry" == value
        assert 2 == outcome.attempts
        assert outcome.degraded

    def test_a_place_that_can_not_be_prepared(self, servers):
        """
        What keeps a place from being ready does not count as asked, nor against its breaker.
        """
        places = servers({FIRST: ["one"], SECOND: ["two"]}, circuit_breaker=QUICK)
        places.guide.trouble[FIRST] = TimeoutError("not loaded in time", error_code=ErrorCode.ERR_TIMEOUT_RESPONSE)

        value, outcome = places.outcome()

        assert "two" == value
        assert 1 == outcome.attempts
        assert 0 == places.breaker(FIRST).failures
        assert [("enter", FIRST), ("prepare", FIRST), ("leave", FIRST)] == places.guide.heard[:3]

    def test_the_guide_hears_of_what_failed(self, servers):
        """
        A place that was asked in vain is told of, whoever answered in the end.
        """
        places = servers({FIRST: [refused()], SECOND: ["two"]})

        assert "two" == places.outcome()[0]

        assert [("enter", FIRST), ("prepare", FIRST), ("leave", FIRST), ("failed", FIRST, "ConnectionError")] == (
            places.guide.heard[:4]
        )

    def test_an_error_dies(self, world, clock):
        """
        Errors that another place has made up for are gone when the call is.
        """
        places = Servers(world.name, clock, {}, {FIRST: ["one"], SECOND: ["two"]})
        gc.collect()
        gc.disable()
        try:
            makers = {FIRST: refused, SECOND: lost}
            places.scripts = {name: [lambda make=make: _raise(make)] for name, make in makers.items()}

            assert world.error_dies(places.guarded)
        finally:
            gc.enable()


def _raise(make):
    raise make()


class TestStreams:
    @pytest.mark.parametrize("way", ["stream", "async stream"])
    def test_no_other_place_after_the_first_content(self, clock, way):
        """
        A stream that breaks after its first content stays broken: half of another answer would follow.
        """
        places = Servers(way, clock, {}, {FIRST: ["one"], SECOND: ["two"]})

        def broken(*args):
            yield "half"
            raise lost()

        async def broken_async(*args):
            yield "half"
            raise lost()

        functions = {FIRST: broken if way == "stream" else broken_async, SECOND: places._function(SECOND)}
        places.guarded = guard(places.stack, functions[FIRST], cooperative=True, routes=Routes(functions, places.guide))

        with pytest.raises(ConnectionError) as raised:
            places()

        assert [] == places.asked
        assert 1 == raised.value.arrived.chunks
        assert ("leave", FIRST) == places.guide.heard[-1]

    @pytest.mark.parametrize("way", ["stream", "async stream"])
    def test_a_stream_without_content_is_an_answer(self, clock, way):
        """
        A stream that ends at once has answered.
        """
        places = Servers(way, clock, {}, {FIRST: ["one"], SECOND: ["two"]})

        def nothing(*args):
            return
            yield

        async def nothing_async(*args):
            return
            yield

        functions = {FIRST: nothing if way == "stream" else nothing_async, SECOND: places._function(SECOND)}
        places.guarded = guard(places.stack, functions[FIRST], cooperative=True, routes=Routes(functions, places.guide))

        value, outcome = places.outcome()

        assert "" == value
        assert 1 == outcome.attempts
        assert [] == places.asked

    @pytest.mark.parametrize("way", ["stream", "async stream"])
    def test_a_stream_that_is_left_leaves_its_place(self, clock, way):
        """
        Whoever closes a stream early frees the place it came from.
        """
        places = Servers(way, clock, {}, {FIRST: ["one|more"]})

        async def leave():
            stream = places.guarded()
            assert "one" == await anext(stream)
            await stream.aclose()

        if way == "stream":
            stream = places.guarded()
            assert "one" == next(stream)
            stream.close()
        else:
            asyncio.run(leave())

        assert ("leave", FIRST) == places.guide.heard[-1]


class TestBreakers:
    def test_each_place_has_its_own(self, servers):
        """
        A place that fails opens its own breaker, and is then left out.
        """
        places = servers({FIRST: [refused()], SECOND: ["two"]}, circuit_breaker=QUICK)

        assert "two" == places()
        assert "two" == places()
        assert [FIRST, SECOND, SECOND] == places.asked
        assert ["open", "closed"] == [places.breaker(name).state.value for name in (FIRST, SECOND)]

    def test_all_open_refuse_at_once(self, servers, clock):
        """
        While all are open the call is refused, with the wait for the first that lets a trial through.
        """
        places = servers({FIRST: [refused()], SECOND: [refused()]}, circuit_breaker=QUICK)
        with pytest.raises(ConnectionError):
            places()
        places.breaker(FIRST).reset()
        clock.advance(10.0)
        with pytest.raises(ConnectionError):
            places()
        places.asked.clear()

        with pytest.raises(CircuitBreakerOpen) as raised:
            places()

        assert [] == places.asked
        assert 20.0 == pytest.approx(raised.value.retry_after)
        assert f"lm.ask[endpoint={SECOND}]" == raised.value.target
        assert 0 == raised.value.attempts

    def test_a_retry_may_wait_for_the_first_that_closes(self, servers, clock):
        """
        `wait_for_breaker` waits for the place whose cooldown ends first.
        """
        places = servers(
            {FIRST: [refused(), "one"], SECOND: [refused()]},
            circuit_breaker=QUICK,
            retry=RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=3, wait_for_breaker=True),
        )

        assert "one" == places()
        assert 30.0 == pytest.approx(sum(clock.sleeps))

    def test_forced_open(self, servers):
        """
        A breaker that the policy forces open refuses at every place.
        """
        breaker = CircuitBreakerConfig(mode=BreakerMode.FORCED_OPEN)
        places = servers({FIRST: ["one"], SECOND: ["two"]}, circuit_breaker=breaker)

        with pytest.raises(CircuitBreakerOpen) as raised:
            places()

        assert [] == places.asked
        assert raised.value.retry_after is None

    def test_per_model_at_each_place(self, servers):
        """
        With `per: model` each place has a breaker for each model, and a call sees those of its own model.
        """
        breaker = CircuitBreakerConfig(failure_threshold=1, per="model")
        options = {"breaker_key": {"model": lambda model: model}}
        places = servers({FIRST: [refused()], SECOND: [refused()]}, circuit_breaker=breaker, options=options)
        with pytest.raises(ConnectionError):
            places("small")
        places.asked.clear()

        with pytest.raises(CircuitBreakerOpen):
            places("small")
        assert [] == places.asked
        with pytest.raises(ConnectionError):
            places("big")
        assert {(name, model) for name in (FIRST, SECOND) for model in ("small", "big")} == set(
            places.stack.over_routes.breakers_by_place()
        )

    def test_per_endpoint_is_each_place(self, servers):
        """
        With `per: endpoint` each place has one breaker.
        """
        places = servers({FIRST: ["one"]}, circuit_breaker=CircuitBreakerConfig(per="endpoint"))

        assert "one" == places()
        assert [FIRST] == list(places.stack.over_routes.breakers_by_place())

    def test_the_last_open_one_is_asked_when_another_opens_meanwhile(self, clock):
        """
        Where every place refuses only when it is asked, the refusal is the error.
        """
        places = Servers("sync", clock, {"circuit_breaker": QUICK}, {FIRST: ["one"], SECOND: ["two"]})
        for name in (FIRST, SECOND):
            breaker = places.breaker(name)
            breaker.record_failure(breaker.acquire(), refused())
        clock.advance(30.0)
        held = [places.breaker(name).acquire() for name in (FIRST, SECOND)]  # the trials of others

        with pytest.raises(CircuitBreakerOpen) as raised:
            places()

        assert ErrorCode.ERR_CB_HALF_OPEN is raised.value.error_code
        assert [] == places.asked
        assert 2 == len(held)


class TestLayersOfEachPlace:
    def test_a_full_bulkhead_sends_on(self, servers):
        """
        A place that has no slot leaves the call to the next.
        """
        places = servers({FIRST: ["one"], SECOND: ["two"]}, bulkhead=BulkheadConfig(max_concurrent=1, max_waiting=0))
        admission = places.stack.over_routes.route(FIRST).admission
        gate = places.stack.over_routes.route(FIRST).gate
        admission.enter_now(gate)

        value, outcome = places.outcome()

        assert "two" == value
        assert 1 == outcome.attempts
        admission.leave()
        assert "one" == places()

    def test_both_full_is_a_refusal(self, servers):
        """
        Where every place is full, the call is told so.
        """
        places = servers({FIRST: ["one"]}, bulkhead=BulkheadConfig(max_concurrent=1, max_waiting=0))
        route = places.stack.over_routes.route(FIRST)
        route.admission.enter_now(route.gate)

        with pytest.raises(LimitExceeded):
            places()

    def test_describe(self, servers):
        """
        The layers are told in their order: those of the whole call, the places, those of each place.
        """
        places = servers(
            {FIRST: ["one"], SECOND: ["two"]},
            deadline=10.0,
            retry=TWICE,
            circuit_breaker=QUICK,
            timeout=TimeoutConfig(attempt=3.0),
        )

        names = [layer.name for layer in places.stack.describe()]

        assert ["deadline", "retry", "endpoints", "circuit_breaker", "timeout", "call"] == names
        assert {"endpoints": [FIRST, SECOND]} == places.stack.describe()[2].settings

    def test_a_hedge_asks_beside(self, clock):
        """
        A hedge sends another pass beside one that takes long.
        """
        places = Servers("async", VirtualClock(), {"hedge": HedgeConfig(delay=5.0)}, {FIRST: ["one"]})

        assert "one" == places()

    def test_whoever_has_no_routes_has_the_whole_stack(self, clock):
        """
        A function without routes keeps all layers to itself, beside another one that has routes.
        """
        places = Servers("sync", clock, {"circuit_breaker": QUICK}, {FIRST: [refused()]})
        own = guard(places.stack, lambda: "mine", cooperative=True)
        with pytest.raises(ConnectionError):
            places()

        assert "mine" == own()
        assert "closed" == places.stack.breaker.state.value
        assert 2 == places.stack.stats().succeeded + places.stack.stats().failed


class TestReload:
    def test_state_goes_on(self, clock):
        """
        A policy that is loaded again keeps each place's breaker and queues.
        """
        layers = {"circuit_breaker": QUICK, "bulkhead": BulkheadConfig(max_concurrent=1, max_waiting=0)}
        places = Servers("sync", clock, layers, {FIRST: [refused()], SECOND: ["two"]})
        places()
        route = places.stack.over_routes.route(SECOND)
        route.admission.enter_now(route.gate)

        new = Stack("lm.ask", TargetPolicy(**layers, deadline=5.0), clock=clock, before=places.stack)
        new.take_queues(places.stack)
        places.guarded = places.guard(new)

        assert "open" == new.over_routes.breakers_by_place()[FIRST].state.value
        with pytest.raises(LimitExceeded):
            places()

    def test_a_place_that_the_new_one_did_not_know(self, clock):
        """
        Without routes before, there is nothing to go on with.
        """
        before = Stack("lm.ask", TargetPolicy(circuit_breaker=QUICK), clock=clock)
        new = Stack("lm.ask", TargetPolicy(circuit_breaker=QUICK), clock=clock, before=before)
        new.take_queues(before)

        assert new.over_routes is None

    def test_fallbacks_elsewhere_are_those_of_the_whole(self, clock):
        """
        A step that asks another server has the stack that it has without routes: all layers of one attempt.
        """
        step = FallbackStep(FallbackStrategy.ENDPOINT, value=THIRD)
        layers = {"fallback": (step,), "timeout": TimeoutConfig(attempt=3.0)}
        places = Servers(
            "sync", clock, layers, {FIRST: [refused()]}, alternative=lambda step, name: lambda: f"from {name}"
        )

        assert f"from {THIRD}" == places()
        assert 3.0 == places.stack.alternative(0).policy.timeout.attempt
        assert places.stack.alternative(0) is places.stack.over_routes.alternative(0)


class TestMayBeBetterElsewhere:
    @pytest.mark.parametrize(
        ("error", "repeatable", "once"),
        [
            (refused(), True, True),
            (lost(), True, False),
            (unknown_model(), True, True),
            (APIError("key", error_code=ErrorCode.ERR_API_UNAUTHORIZED), True, True),
            (APIError("slow down", error_code=ErrorCode.ERR_API_RATE_LIMIT), True, False),
            (LimitExceeded("full", error_code=ErrorCode.ERR_LIMIT_BULKHEAD), True, True),
            (LimitExceeded("often", error_code=ErrorCode.ERR_LIMIT_RATE), True, True),
            (CircuitBreakerOpen("open"), True, True),
            (CircuitBreakerOpen("half", error_code=ErrorCode.ERR_CB_HALF_OPEN), True, True),
            (bad_request(), False, False),
            (ValidationError("no"), False, False),
            (RuntimeError("a bug"), False, False),
        ],
    )
    def test_by_error(self, error, repeatable, once):
        """
        What the request itself is to blame for is asked nowhere else; what may have been sent only if it may be twice.
        """
        assert repeatable is may_be_better_elsewhere(error, idempotent=True)
        assert once is may_be_better_elsewhere(error, idempotent=False)
