"""Spans of calls and attempts."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from spanning import WORLDS, Failing, Spans, call, in_world, policies_of, wait_until

from pixel_llm import ErrorCode, LogContext, PixelLMError, TimeoutError, ValidationError
from pixel_llm.opentelemetry import instrument, uninstrument
from pixel_llm.resilience.tracing import live

RETRIED = "{shop.pay: {retry: {strategy: immediate, max_attempts: 3}, idempotent: true}}"
LOST = ConnectionResetError


@pytest.fixture
def spans():
    return Spans()


@pytest.fixture
def seen(tmp_path, spans):
    """Policies whose calls make spans: ``seen(targets)``."""
    made = []

    def make(targets, **options):
        policies = policies_of(tmp_path, targets, **options)
        instrument(policies, tracer_provider=spans.provider)
        made.append(policies)
        return policies

    yield make
    for policies in made:
        policies.close()


@pytest.mark.parametrize("world", WORLDS)
class TestCalls:
    def test_success(self, seen, spans, world):
        """
        A call is a span by its target's name, with an attempt in it, and says what became of it.
        """
        call(world, seen(RETRIED).wrap("shop.pay", in_world(world, Failing())))

        assert ["shop.pay", "  shop.pay attempt attempt=1"] == spans.tree("pixel_llm.attempt")
        assert {
            "pixel_llm.target": "shop.pay",
            "pixel_llm.profile": "test",
            "pixel_llm.served_by": "call",
            "pixel_llm.degraded": False,
            "pixel_llm.attempts": 1,
        } == dict(spans.one("shop.pay").attributes)
        assert {"pixel_llm.target": "shop.pay", "pixel_llm.attempt": 1} == dict(
            spans.one("shop.pay attempt").attributes
        )
        assert {trace.SpanKind.INTERNAL} == {span.kind for span in spans.all()}
        assert {"pixel_llm"} == {span.instrumentation_scope.name for span in spans.all()}

    def test_attempts(self, seen, spans, world):
        """
        Each attempt says what it failed of; the call, which succeeded, has no error.
        """
        call(world, seen(RETRIED).wrap("shop.pay", in_world(world, Failing(LOST(), LOST()))))

        assert [
            "shop.pay attempts=3",
            "  shop.pay attempt attempt=1 type=ERR_CONN_LOST ERROR",
            "  shop.pay attempt attempt=2 type=ERR_CONN_LOST ERROR",
            "  shop.pay attempt attempt=3",
        ] == spans.tree("pixel_llm.attempts", "pixel_llm.attempt", "error.type")

    def test_failure(self, seen, spans, world):
        """
        A call that fails is an error: of our code, or of the class where no code describes it; its text stays out.
        """
        failing = seen(RETRIED).wrap("shop.pay", in_world(world, Failing(LookupError("card 4711"))))
        with pytest.raises(LookupError):
            call(world, failing)

        assert [
            "shop.pay attempts=1 type=LookupError ERROR",
            "  shop.pay attempt type=LookupError ERROR",
        ] == spans.tree("pixel_llm.attempts", "error.type")
        assert "4711" not in "".join(span.to_json() for span in spans.all())

    def test_error_with_code(self, seen, spans, world):
        """
        The status of an error with a code says what that code means.
        """
        error = PixelLMError("card 4711", error_code=ErrorCode.ERR_API_UNAUTHORIZED)
        with pytest.raises(PixelLMError):
            call(world, seen(RETRIED).wrap("shop.pay", in_world(world, Failing(error))))

        paid = spans.one("shop.pay")
        assert "ERR_API_UNAUTHORIZED" == paid.attributes["error.type"]
        assert ErrorCode.ERR_API_UNAUTHORIZED.info.message == paid.status.description

    def test_degraded(self, seen, spans, world):
        """
        What a fallback serves is no error, and carries the code of what it stands in for.
        """
        policies = seen("{shop.pay: {fallback: [{default_value: later}]}}")

        assert "later" == call(world, policies.wrap("shop.pay", in_world(world, Failing(LOST()))))
        assert (
            "shop.pay served_by=default_value degraded=True attempts=1 type=ERR_CONN_LOST"
            == spans.tree("pixel_llm.served_by", "pixel_llm.degraded", "pixel_llm.attempts", "error.type")[0]
        )

    def test_refused(self, seen, spans, world):
        """
        A call that a layer refuses has no attempt.
        """
        policies = seen("{shop.pay: {circuit_breaker: {failure_threshold: 1}}}")
        pay = policies.wrap("shop.pay", in_world(world, Failing(LOST())))
        for _ in range(2):
            with pytest.raises((OSError, PixelLMError)):
                call(world, pay)

        assert ["shop.pay attempts=0 type=ERR_CB_OPEN ERROR"] == spans.tree("pixel_llm.attempts", "error.type")[2:]

    def test_cache_hit(self, seen, spans, world):
        """
        A call that the cache serves has no attempt, and says so.
        """
        pay = seen("{shop.pay: {cache: {ttl: 1m}}}").wrap("shop.pay", in_world(world, Failing()), key=lambda: 1)
        call(world, pay)
        call(world, pay)

        assert [
            "shop.pay served_by=call attempts=1",
            "  shop.pay attempt",
            "shop.pay served_by=cache_hit attempts=0",
        ] == (spans.tree("pixel_llm.served_by", "pixel_llm.attempts"))

    def test_nested(self, seen, spans, world):
        """
        A guarded call in an attempt of another one is its child, and the program's own spans lie where they are made.
        """
        policies = seen("{shop.order: {}, shop.pay: {}}")
        pay = policies.wrap("shop.pay", in_world(world, Failing()))
        tracer = spans.provider.get_tracer("shop")

        def order():
            with tracer.start_as_current_span("pack"):
                return pay()

        async def order_async():
            with tracer.start_as_current_span("pack"):
                return await pay()

        with tracer.start_as_current_span("request"):
            call(world, policies.wrap("shop.order", order if world == "sync" else order_async))

        assert [
            "request",
            "  shop.order",
            "    shop.order attempt",
            "      pack",
            "        shop.pay",
            "          shop.pay attempt",
        ] == spans.tree()
        assert trace.get_current_span() is trace.INVALID_SPAN

    def test_request_id(self, seen, spans, world):
        """
        The id of the request that is served is on the call.
        """
        with LogContext(request_id="req-7"):
            call(world, seen(RETRIED).wrap("shop.pay", in_world(world, Failing())))

        assert "req-7" == spans.one("shop.pay").attributes["pixel_llm.request_id"]


class TestEvents:
    def test_retry_and_fallback(self, seen, spans):
        """
        What the stack tells is on the call's span: typed, and without the texts of errors.
        """
        policies = seen(
            "{shop.pay: {retry: {strategy: immediate, max_attempts: 2}, idempotent: true, "
            "circuit_breaker: {failure_threshold: 2}, fallback: [{cache: {ttl: 1h}}, {default_value: later}]}}"
        )
        policies.wrap("shop.pay", Failing(LOST("card 4711"), LOST("card 4711")), key=lambda: 1)()

        events = {event.name: dict(event.attributes) for event in spans.one("shop.pay").events}
        assert [
            "attempt_failed",
            "retry_scheduled",
            "circuit_state_changed",
            "attempt_failed",
            "call_failed",
            "fallback_skipped",
            "fallback_served",
        ] == [event.name for event in spans.one("shop.pay").events]
        assert {
            "pixel_llm.target": "shop.pay",
            "pixel_llm.attempt": 1,
            "pixel_llm.delay": 0.0,
            "error.type": "ERR_CONN_LOST",
        } == events["retry_scheduled"]
        assert ("closed", "open", 2, False) == tuple(
            events["circuit_state_changed"][f"pixel_llm.{name}"]
            for name in ("old_state", "new_state", "failures", "shadow")
        )
        assert "default_value" == events["fallback_served"]["pixel_llm.served_by"]
        assert "4711" not in spans.one("shop.pay").to_json()

    def test_failed_step_without_its_text(self, seen, spans):
        """
        A fallback step that fails is told by its code.
        """
        policies = seen(
            "{shop.pay: {fallback: [{custom_function: other}, {default_value: later}]}}",
            functions={"other": Failing(LOST("card 4711"))},
        )
        policies.wrap("shop.pay", Failing(LOST()))()

        (skipped,) = [event for event in spans.one("shop.pay").events if event.name == "fallback_skipped"]
        assert "failed of ERR_CONN_LOST" == skipped.attributes["pixel_llm.reason"]

    def test_of_an_attempt(self, seen, spans):
        """
        What is told inside of an attempt is on the attempt.
        """
        policies = seen("{shop.pay: {chaos: {delay: {rate: 1, duration: 1ms}}}}")
        policies.wrap("shop.pay", Failing())()

        (event,) = spans.one("shop.pay attempt").events
        assert ("chaos_injected", "delay") == (event.name, event.attributes["pixel_llm.injected"])
        assert () == spans.one("shop.pay").events

    def test_of_the_policy(self, seen, spans):
        """
        A policy that is loaded again inside of a call has no target.
        """
        policies = seen("{shop.pay: {}}")
        policies.wrap("shop.pay", policies.reload)()

        (event,) = spans.one("shop.pay attempt").events
        assert ("policy_reloaded", False) == (event.name, "pixel_llm.target" in event.attributes)

    def test_not_on_spans_of_others(self, seen, spans):
        """
        What no call tells is on no span.
        """
        policies = seen("{shop.pay: {}}")
        with spans.provider.get_tracer("shop").start_as_current_span("request"):
            policies.reload()

        assert () == spans.one("request").events


class TestTime:
    def test_cancelled_for_time(self, seen, spans):
        """
        An async attempt whose time ran out is an error of the type timeout, though it is ended by cancellation.
        """
        policies = seen("{shop.pay: {timeout: 50ms}}")

        async def hang():
            await asyncio.sleep(10)

        with pytest.raises(TimeoutError):
            asyncio.run(policies.wrap("shop.pay", hang)())

        assert ["shop.pay type=ERR_TIMEOUT_REQUEST ERROR", "  shop.pay attempt type=timeout ERROR"] == spans.tree(
            "error.type", "pixel_llm.left"
        )

    def test_cancelled(self, seen, spans):
        """
        A call that its caller cancels is no error: it was left.
        """
        policies = seen("{shop.pay: {timeout: 50s}}")

        async def cancel():
            task = asyncio.ensure_future(policies.wrap("shop.pay", asyncio.sleep)(10))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])

        asyncio.run(cancel())

        assert ["shop.pay left=cancelled", "  shop.pay attempt left=cancelled"] == spans.tree(
            "error.type", "pixel_llm.left"
        )

    def test_worker_thread(self, seen, spans):
        """
        The span of an attempt in a worker thread whose caller has left ends when the function does, as a timeout.
        """
        go_on = threading.Event()
        tracer = spans.provider.get_tracer("shop")

        def hang():
            with tracer.start_as_current_span("inside"):
                go_on.wait(10)

        with pytest.raises(TimeoutError):
            seen("{shop.pay: {timeout: 50ms}}").wrap("shop.pay", hang)()
        assert ["shop.pay type=ERR_TIMEOUT_REQUEST ERROR"] == spans.tree("error.type")
        go_on.set()
        spans.wait_for(3)

        assert [
            "shop.pay type=ERR_TIMEOUT_REQUEST ERROR",
            "  shop.pay attempt type=timeout ERROR",
            "    inside",
        ] == spans.tree("error.type")

    def test_worker_thread_in_time(self, seen, spans):
        """
        One that is in time is a success.
        """
        assert "done" == seen("{shop.pay: {timeout: 50s}}").wrap("shop.pay", Failing())()
        assert ["shop.pay", "  shop.pay attempt"] == spans.tree("error.type", "pixel_llm.left")

    def test_nested_in_time_of_the_outer(self, seen, spans):
        """
        When the outer attempt's time is up the inner one's is, too.
        """
        policies = seen("{shop.order: {timeout: 50ms}, shop.pay: {}}")
        pay = policies.wrap("shop.pay", asyncio.sleep)

        async def order():
            await pay(10)

        with pytest.raises(TimeoutError):
            asyncio.run(policies.wrap("shop.order", order)())

        assert [
            "shop.order type=ERR_TIMEOUT_DEADLINE ERROR",
            "  shop.order attempt type=ERR_TIMEOUT_DEADLINE ERROR",
            "    shop.pay type=ERR_TIMEOUT_DEADLINE ERROR",
            "      shop.pay attempt type=timeout ERROR",
        ] == spans.tree("error.type", "pixel_llm.left")


class TestHedges:
    TARGET = "{shop.pay: {idempotent: true, hedge: {delay: 20ms, max_hedges: 1}}}"

    def test_threads(self, seen, spans):
        """
        Attempts that run side by side in threads are siblings, and numbered; the loser was left.
        """
        go_on = threading.Event()

        def pay():
            if trace.get_current_span().attributes["pixel_llm.attempt"] == 1:
                go_on.wait(10)
            return "done"

        assert "done" == seen(self.TARGET).wrap("shop.pay", pay)()
        go_on.set()
        spans.wait_for(3)

        assert [
            "shop.pay",
            "  shop.pay attempt attempt=1 left=cancelled",
            "  shop.pay attempt attempt=2",
        ] == spans.tree("pixel_llm.attempt", "pixel_llm.left", "error.type")
        assert {"hedge_sent", "hedge_won"} <= {event.name for event in spans.one("shop.pay").events}

    def test_tasks(self, seen, spans):
        """
        So are those in tasks.
        """

        async def pay():
            if trace.get_current_span().attributes["pixel_llm.attempt"] == 1:
                await asyncio.sleep(10)
            return "done"

        assert "done" == asyncio.run(seen(self.TARGET).wrap("shop.pay", pay)())
        assert [
            "shop.pay",
            "  shop.pay attempt attempt=1 left=cancelled",
            "  shop.pay attempt attempt=2",
        ] == spans.tree("pixel_llm.attempt", "pixel_llm.left", "error.type")


class TestInstrument:
    def test_without(self, tmp_path, spans):
        """
        Nothing is seen of policies that are not instrumented, or no longer.
        """
        policies = policies_of(tmp_path, RETRIED)
        pay = policies.wrap("shop.pay", Failing())
        pay()
        uninstrument(policies)
        instrument(policies, tracer_provider=spans.provider)
        uninstrument(policies)
        pay()

        assert [] == spans.all()

    def test_twice(self, seen, spans):
        """
        The second call replaces the first: no span is there twice, nor an event.
        """
        policies = seen(RETRIED)
        others = Spans()
        instrument(policies, tracer_provider=others.provider)
        policies.wrap("shop.pay", Failing(LOST()))()

        assert [] == spans.all()
        assert ["shop.pay", "  shop.pay attempt", "  shop.pay attempt"] == [
            line.split(" ERROR")[0] for line in others.tree()
        ]
        names = [event.name for event in others.one("shop.pay").events]
        assert len(names) == len(set(names))

    def test_reload(self, seen, spans):
        """
        A policy that is loaded again stays instrumented.
        """
        policies = seen(RETRIED)
        pay = policies.wrap("shop.pay", Failing())
        policies.reload()
        pay()

        assert ["shop.pay", "  shop.pay attempt"] == spans.tree()

    @pytest.mark.parametrize("function", [instrument, uninstrument])
    def test_something_else(self, function):
        """
        What is no policy is refused.
        """
        with pytest.raises(ValidationError, match=r"takes what load_policies\(\) gives"):
            function(object())


class Broken(SpanProcessor):
    """Raises wherever it can."""

    def on_start(self, span, parent_context=None):
        raise RuntimeError("broken")


class BrokenAtTheEnd(SpanProcessor):
    def on_end(self, span):
        raise RuntimeError("broken")


class TestTrouble:
    @pytest.mark.parametrize(("processor", "whose"), [(Broken, 1), (BrokenAtTheEnd, 2)])
    def test_processor_that_raises(self, seen, spans, caplog, monkeypatch, processor, whose):
        """
        A call goes on whatever those do who take its spans; that is reported once for each kind of span.
        """
        monkeypatch.setattr(live, "_reported", set())
        spans.provider.add_span_processor(processor())
        pay = seen(RETRIED).wrap("shop.pay", Failing(LOST()))

        assert ["done"] * 3 == [pay() for _ in range(3)]
        assert trace.get_current_span() is trace.INVALID_SPAN
        assert ["pixel_llm"] * whose == [record.name for record in caplog.records]

    def test_threads_at_once(self, seen, spans):
        """
        Calls of many threads have their own attempts.
        """
        pay = seen("{shop.pay: {}}").wrap("shop.pay", lambda: time.sleep(0.001))
        threads = [threading.Thread(target=lambda: [pay() for _ in range(20)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: len(spans.all()) == 160)

        assert ["shop.pay", "  shop.pay attempt attempt=1"] * 80 == spans.tree("pixel_llm.attempt")

    def test_tasks_at_once(self, seen, spans):
        """
        So have those of many tasks, in one event loop after the other.
        """
        pay = seen("{shop.pay: {}}").wrap("shop.pay", asyncio.sleep)

        async def pay_often():
            await asyncio.gather(*(pay(0.001) for _ in range(20)))

        asyncio.run(pay_often())
        asyncio.run(pay_often())

        assert ["shop.pay", "  shop.pay attempt attempt=1"] * 40 == spans.tree("pixel_llm.attempt")
