"""Spans under way: none harms a call, each ends once, and what is dropped ends with what is around it."""

from __future__ import annotations

import contextvars
import logging
from types import SimpleNamespace

import pytest
from diary import wait_for

from pixel_llm.policy import TargetPolicy
from pixel_llm.resilience import Stack, guard
from pixel_llm.resilience.tracing.live import LiveSpan, begin, current, traced_request


class Broken:
    """A span, a tracer and a request that raise wherever they can."""

    def __init__(self, *, works=()):
        self.works = works

    def __getattr__(self, name):
        if name in self.works:
            return lambda *args: Broken(works=self.works)
        raise RuntimeError(f"{name} is broken")


@pytest.fixture
def span(tracer):
    return begin(tracer, "shop.pay", (), {})


class TestHarmless:
    @pytest.mark.parametrize(
        "works",
        [(), ("call",), ("call", "attempt"), ("call", "attempt", "enter"), ("call", "attempt", "request", "leave")],
        ids=" ".join,
    )
    def test_what_raises_harms_no_call(self, works):
        def pay():
            with traced_request("POST", "http://x/v1") as sent:
                assert sent.headers() == []
                sent.answered(200)
            return "paid"

        stack = Stack("shop.pay", TargetPolicy(), tracer=Broken(works=works))
        assert guard(stack, pay)() == "paid"
        assert current() is None

    def test_it_is_reported_once_for_each_class(self, caplog):
        class Fresh(Broken):
            pass

        with caplog.at_level(logging.ERROR, "pixel_llm"):
            for _ in range(3):
                guard(Stack("shop.pay", TargetPolicy(), tracer=Fresh()), lambda: 1)()
        (record,) = [record for record in caplog.records if "Fresh" in record.getMessage()]
        assert "reported once" in record.getMessage()
        assert "call is broken" in caplog.text

    def test_headers_that_fit_into_no_request_are_left_out(self, span):
        span._span.request = lambda method, url: SimpleNamespace(headers={"traceparent": "é"}, end=lambda error: None)
        with span.request("POST", "http://x") as sent:
            assert sent.headers() == []


class TestRequests:
    def test_a_request(self, span, tracer):
        with span.inside(), traced_request("POST", "http://x/v1") as sent:
            assert sent.headers() == [(b"traceparent", b"00-1")]
            sent.answered(200)
        assert tracer.diary[1:] == [
            "POST http://x/v1 begins",
            "POST http://x/v1: 200",
            "POST http://x/v1 ends in NoneType",
        ]

    def test_one_that_fails(self, span, tracer):
        with pytest.raises(ValueError, match="no"), span.request("GET", "u"):
            raise ValueError("no")
        assert tracer.diary[-1] == "GET u ends in ValueError"

    def test_nobody_sees_one_outside_of_a_call(self):
        with traced_request("POST", "http://x/v1") as sent:
            assert sent.headers() == []
            sent.answered(200)

    def test_one_that_is_dropped_ends_with_what_is_around_it(self, span, tracer):
        def stream():
            with span.request("POST", "u"):
                yield 1

        chunks = stream()
        next(chunks)
        chunks.close()
        assert tracer.diary[-1] == "POST u begins"
        span.end(None, None)
        assert tracer.diary[-2:] == ["POST u ends in NoneType", "a ends in None"]


class TestEnds:
    def test_it_ends_once(self, span, tracer):
        span.end(1, None)
        span.end(2, None)
        assert tracer.diary == ["a begins", "a ends in 1"]

    def test_what_is_left_after_the_end_of_what_is_around_it_ends_in_a_thread(self, span, tracer):
        attempt = span.attempt("shop.pay")
        span.end(None, None)
        attempt.leave(lambda: attempt.end(None, GeneratorExit()))
        wait_for(lambda: len(tracer.ended) == 2)
        assert tracer.diary[-1] == "a.1 ends in GeneratorExit"

    def test_another_thread_may_have_ended_what_was_left(self, span):
        class Popped(list):
            """Something is in it until it is asked for."""

            def __bool__(self):
                return True

        span._left = Popped()
        span.end(None, None)

    def test_what_is_closed_in_another_context_leaves_that_alone(self, span, tracer):
        def steps():
            with span.whole():
                yield

        running = steps()
        contextvars.copy_context().run(next, running)
        other = begin(tracer, "shop.pay", (), {})
        with other.inside():
            running.close()
            assert current() is other
        assert span._span.inside == 1  # it was never left: there was nothing to leave
        assert current() is None

    def test_what_is_closed_in_a_copy_of_its_context_leaves_that_alone(self, span):
        def steps():
            with span.inside():
                yield

        def main():
            running = steps()
            next(running)
            contextvars.copy_context().run(running.close)
            assert current() is span

        contextvars.copy_context().run(main)
        assert span._span.inside == 1

    def test_what_is_closed_where_it_ran_is_left(self, span):
        def steps():
            with span.inside():
                yield

        running = steps()
        next(running)
        running.close()
        assert span._span.inside == 0
        assert current() is None


def test_a_span_of_nobody():
    """A tracer that fails gives no span; whoever asks for its parts gets such ones."""
    span = LiveSpan(None, None)
    with span.whole() as result, span.attempt("x").whole(), span.request("GET", "u") as sent:
        assert sent.headers() == []
        result.value = 1
    span.chunk(1)
