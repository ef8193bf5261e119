"""Spans of captions: whole trees, over real sockets."""

from __future__ import annotations

import asyncio
import gc
from contextlib import ExitStack

import numpy as np
import pytest
from opentelemetry import propagate
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from spanning import Spans

from pixel_llm import HybridPixelLLM, PixelLMError
from pixel_llm.opentelemetry import instrument
from pixel_llm.testing import Answer, BrokenStream, Hang, Reset, ScriptedLMStudio, Status

MODEL = "qwen2.5-vl-7b-instruct"
RED = np.full((48, 64, 3), (200, 30, 30), np.uint8)
SECRET = "a heron at dawn"
TARGETS = {
    "lm_studio.chat": {"retry": {"strategy": "immediate", "max_attempts": 2}, "circuit_breaker": None},
    "pixel_llm.generate": {"deadline": "20s", "fallback": None},
}
GENERATION = {"max_tokens": 99, "temperature": 0.5, "top_p": 0.9, "seed": 7, "system_prompt": SECRET}


@pytest.fixture
def spans():
    return Spans()


@pytest.fixture(params=["sync", "async", "stream", "async stream"])
def way(request):
    return request.param


@pytest.fixture
def exits():
    with ExitStack() as exits:
        yield exits


@pytest.fixture
def model_of(exits, spans):
    """A model that asks these servers, and whose calls make spans."""

    def make(*servers, targets=None, **lm_studio):
        addresses = [{"base_url": server.base_url} for server in servers]
        where = {"endpoints": addresses} if len(addresses) > 1 else addresses[0]
        config = {
            "lm_studio": {"vision": "image", "model": MODEL, "generation": GENERATION, **where, **lm_studio},
            "targets": {**TARGETS, **(targets or {})},
        }
        model = exits.enter_context(HybridPixelLLM("basic", error_config=config))
        instrument(model.policies, tracer_provider=spans.provider)
        return model

    return make


@pytest.fixture
def server(exits):
    def make(*script, **options):
        return exits.enter_context(ScriptedLMStudio(script=list(script), **options))

    return make


def ask(way, model, pieces=None):
    """Caption a picture, or read so many pieces of its caption and leave it."""
    if way == "sync":
        return model.generate(RED, SECRET)
    if way == "async":
        return asyncio.run(model.generate_async(RED, SECRET))
    if way == "stream":
        with model.stream(RED, SECRET) as stream:
            return [next(stream) for _ in range(pieces)] if pieces else list(stream)

    async def read():
        async with model.stream_async(RED, SECRET) as stream:
            if pieces:
                return [await anext(stream) for _ in range(pieces)]
            return [piece async for piece in stream]

    return asyncio.run(read())


class TestTree:
    def test_whole(self, model_of, server, spans, way):
        """
        generate → chat → an attempt that failed, and one that did not → their requests.
        """
        ask(way, model_of(server(Status(status=503), Answer(text="A red square."))))

        assert [
            "pixel_llm.generate",
            "  pixel_llm.generate attempt",
            f"    chat {MODEL}",
            "      lm_studio.chat attempt attempt=1 type=ERR_API_OVERLOAD ERROR",
            "        POST status_code=503 type=503 ERROR",
            "      lm_studio.chat attempt attempt=2",
            "        POST status_code=200 resend_count=1",
        ] == [
            line.replace("generate attempt attempt=1", "generate attempt")
            for line in spans.tree(
                "pixel_llm.attempt", "http.response.status_code", "http.request.resend_count", "error.type"
            )
        ]
        assert 1 == len({span.context.trace_id for span in spans.all()})

    def test_attributes_of_the_chat(self, model_of, server, spans, way):
        """
        A chat has the attributes of the GenAI conventions: what is asked for, who answered, how much it cost.
        """
        there = server(Answer(text="A red square.", model="qwen-other"))
        ask(way, model_of(there))

        chat = spans.one(f"chat {MODEL}")
        attributes = dict(chat.attributes)
        assert SpanKind.CLIENT is chat.kind
        assert attributes.pop("pixel_llm.request_id")
        assert {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "lm_studio",
            "gen_ai.request.model": MODEL,
            "gen_ai.request.max_tokens": 99,
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.top_p": 0.9,
            "gen_ai.request.seed": 7,
            "gen_ai.response.model": "qwen-other",
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.usage.input_tokens": 8,
            "gen_ai.usage.output_tokens": 3,
            "server.address": "127.0.0.1",
            "server.port": there.port,
            "pixel_llm.target": "lm_studio.chat",
            "pixel_llm.profile": "basic",
            "pixel_llm.attempts": 1,
            "pixel_llm.served_by": "call",
            "pixel_llm.degraded": False,
        } == attributes

    def test_request(self, model_of, server, spans, way):
        """
        A request has those of the HTTP conventions, and tells the server of its span.
        """
        there = server(Answer(text="A red square."))
        ask(way, model_of(there))

        post = spans.one("POST")
        assert SpanKind.CLIENT is post.kind
        assert {
            "http.request.method": "POST",
            "url.full": f"{there.base_url}/chat/completions",
            "server.address": "127.0.0.1",
            "server.port": there.port,
            "http.response.status_code": 200,
        } == dict(post.attributes)
        assert [f"00-{post.context.trace_id:032x}-{post.context.span_id:016x}-{post.context.trace_flags:02x}"] == [
            request.headers["traceparent"] for request in there.requests
        ]

    def test_no_content(self, model_of, server, spans, way):
        """
        Nothing of what is asked or answered is in spans, nor in their events.
        """
        ask(way, model_of(server(Status(status=500, message=SECRET), Answer(text="A red square."))))

        written = "".join(span.to_json() for span in spans.all())
        assert SECRET not in written
        assert "red square" not in written
        assert "base64" not in written

    def test_no_answer(self, model_of, server, spans, way):
        """
        A request without an answer has no status; call and attempt have its code, too.
        """
        with pytest.raises(PixelLMError):
            ask(way, model_of(server(then=Reset())))

        assert [
            "pixel_llm.generate type=ERR_CONN_LOST ERROR",
            "  pixel_llm.generate attempt type=ERR_CONN_LOST ERROR",
            f"    chat {MODEL} type=ERR_CONN_LOST ERROR",
            *["      lm_studio.chat attempt type=ERR_CONN_LOST ERROR", "        POST type=ERR_CONN_LOST ERROR"] * 2,
        ] == spans.tree("error.type", "http.response.status_code")

    def test_out_of_time(self, model_of, server, spans, way):
        """
        A server that says nothing in time is an error of all that waited for it.
        """
        targets = {"lm_studio.chat": {"retry": None, "timeout": "100ms"}}
        with pytest.raises(PixelLMError):
            ask(way, model_of(server(then=Hang()), targets=targets))

        assert {"POST", "lm_studio.chat attempt"} < {span.name for span in spans.all()}
        assert [
            span.name
            for span in spans.all()
            if span.attributes["error.type"] not in ("timeout", "ERR_TIMEOUT_REQUEST", "ERR_TIMEOUT_RESPONSE")
        ] == []

    @pytest.mark.parametrize("writes", ["ä", "a\r\nx: b", None])
    def test_propagator_of_the_program(self, model_of, server, spans, writes):
        """
        A propagator that writes what fits into no header, or raises, fails no call.
        """

        class Propagator(TraceContextTextMapPropagator):
            def inject(self, carrier, context=None, setter=None):
                if writes is None:
                    raise RuntimeError
                carrier["x-own"] = "7"
                carrier["x-odd"] = writes

        there, before = server(), propagate.get_global_textmap()
        propagate.set_global_textmap(Propagator())
        try:
            model_of(there).generate(RED)
        finally:
            propagate.set_global_textmap(before)

        (request,) = there.requests
        assert "x-odd" not in request.headers
        assert (None if writes is None else "7") == request.headers.get("x-own")
        assert ["POST"] == [span.name for span in spans.all()][-1:]


class TestStreams:
    @pytest.fixture(params=["stream", "async stream"])
    def way(self, request):
        return request.param

    def test_broken(self, model_of, server, spans, way):
        """
        A stream that breaks is an error of all that it is part of.
        """
        with pytest.raises(PixelLMError):
            ask(way, model_of(server(then=BrokenStream(text="A red square", chunks=2, how="truncated"))))

        assert ["type=ERR_CONN_LOST ERROR"] * 5 == [
            line.partition("type")[1] + line.partition("type")[2] for line in spans.tree("error.type")
        ]
        assert 200 == spans.one("POST").attributes["http.response.status_code"]
        assert MODEL == spans.one(f"chat {MODEL}").attributes["gen_ai.response.model"]

    def test_closed_early(self, model_of, server, spans, way):
        """
        A stream that is closed early was left, and knows no more than what had come.
        """
        ask(way, model_of(server(Answer(text="A red square on red."))), pieces=1)
        gc.collect()
        spans.wait_for(5)

        assert [*["left=closed"] * 4, "status_code=200"] == [
            line.split()[-1] for line in spans.tree("http.response.status_code", "error.type", "pixel_llm.left")
        ]
        assert "gen_ai.usage.output_tokens" not in spans.one(f"chat {MODEL}").attributes


class TestPlaces:
    def test_endpoints(self, model_of, server, spans, way):
        """
        An attempt where there are several servers asks them one after the other: they are numbered, and named.
        """
        first, second = server(then=Status(status=503)), server(then=Answer(text="A red square."))
        ask(way, model_of(first, second))

        chat = spans.one(f"chat {MODEL}")
        visits = [span for span in spans.all() if "pixel_llm.endpoint" in span.attributes]
        assert (second.port, 2) == (chat.attributes["server.port"], len(visits))
        assert {first.base_url, second.base_url} == {span.attributes["pixel_llm.endpoint"] for span in visits}
        assert [
            f"chat {MODEL}",
            "  lm_studio.chat attempt attempt=1",
            "    lm_studio.chat attempt attempt=1 type=ERR_API_OVERLOAD ERROR",
            "      POST type=503 ERROR",
            "    lm_studio.chat attempt attempt=2",
            "      POST resend_count=1",
        ] == [line[4:] for line in spans.tree("pixel_llm.attempt", "http.request.resend_count", "error.type")[2:]]

    def test_another_model(self, model_of, server, spans, way):
        """
        Where another model answers, the chat names it, and the attempt by which it was asked.
        """
        targets = {"lm_studio.chat": {"retry": None, "fallback": [{"model": "small"}]}}
        there = server(Status(status=503), Answer(text="A red square.", model="small"))
        ask(way, model_of(there, targets=targets))

        chat = spans.one(f"chat {MODEL}")
        assert (MODEL, "small", "model:small", True, "ERR_API_OVERLOAD") == tuple(
            chat.attributes[name]
            for name in (
                "gen_ai.request.model",
                "gen_ai.response.model",
                "pixel_llm.served_by",
                "pixel_llm.degraded",
                "error.type",
            )
        )
        assert chat.status.is_unset
        assert [
            {"pixel_llm.target": "lm_studio.chat[model=small]", "pixel_llm.attempt": 2, "pixel_llm.model": "small"}
        ] == [dict(span.attributes) for span in spans.all() if "pixel_llm.model" in span.attributes]

    def test_cached_chat(self, model_of, server, spans):
        """
        What the cache serves has used no tokens now.
        """
        targets = {"lm_studio.chat": {"cache": {"ttl": "1m"}}}
        model = model_of(server(), targets=targets)
        for _ in range(2):
            model.generate(RED, SECRET)

        first, second = spans.named(f"chat {MODEL}")
        assert "gen_ai.usage.input_tokens" in first.attributes
        assert "gen_ai.usage.input_tokens" not in second.attributes
        assert ("cache_hit", MODEL) == (
            second.attributes["pixel_llm.served_by"],
            second.attributes["gen_ai.response.model"],
        )

    def test_models(self, model_of, server, spans):
        """
        Other requests of the client are spans, too.
        """
        model_of(server()).models()

        assert ["lm_studio.models", "  lm_studio.models attempt", "    GET"] == spans.tree()


def test_interrupted_batch(model_of, spans):
    """
    What Ctrl-C ends was cancelled, though its threads go on until they see that their time was taken from them.
    """
    fallback = {"pixel_llm.generate": {"deadline": "20s", "fallback": [{"default_value": "none"}]}}
    with ScriptedLMStudio(then=Hang()) as server:
        model = model_of(server, targets=fallback)

        def images():
            yield from [RED] * model.policies.config.encoder.batch.max_size  # which are handed over together
            server.wait_for_requests(1)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            model.generate_batch(images(), jobs=1)
        spans.wait_for(5)

    assert [
        "pixel_llm.generate left=cancelled",
        "  pixel_llm.generate attempt left=cancelled",
        f"    chat {MODEL} left=cancelled",
        "      lm_studio.chat attempt left=cancelled",
        "        POST left=cancelled",
    ] == spans.tree("pixel_llm.left", "pixel_llm.served_by", "error.type")
    assert [] == [event.name for span in spans.all() for event in span.events]
