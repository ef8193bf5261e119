"""The client's HTTP requests, as whoever sees the attempts sees them too; over real sockets."""

from __future__ import annotations

import asyncio

import pytest

from pixel_llm.errors import APIError, ConnectionError
from pixel_llm.lm_studio import ChatRequest, LMStudioClient
from pixel_llm.resilience.tracing.live import begin
from pixel_llm.testing import Answer, ScriptedLMStudio, Status

QUESTION = ChatRequest(model="m", prompt="What is it?")


class Seen:
    """A tracer, the span of its call, and the spans of its requests."""

    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}  # noqa: RUF012

    def __init__(self):
        self.told = []

    def call(self, target, args, kwargs):
        return self

    def request(self, method, url):
        self.told.append((method, url))
        return self

    def answered(self, status):
        self.told.append(status)

    def end(self, error):
        self.told.append(type(error).__name__)

    def enter(self):
        return self

    def leave(self, entered):
        """Nothing."""


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture(params=["sync", "async"])
def ask(request, seen):
    """Calls a method of a client as part of a span."""

    def ask(base_url, method, *args):
        async def main():
            async with LMStudioClient(base_url) as client:
                called = getattr(client, f"{method}_async")(*args)
                if method == "stream":
                    return [chunk async for chunk in called]
                return await called

        with begin(seen, "lm_studio.chat", (), {}).inside():
            if request.param == "async":
                return asyncio.run(main())
            with LMStudioClient(base_url) as client:
                result = getattr(client, method)(*args)
                return list(result) if method == "stream" else result

    return ask


class TestRequests:
    def test_an_answer(self, ask, seen):
        with ScriptedLMStudio([Answer(text="A cat.")]) as server:
            assert ask(server.base_url, "chat", QUESTION).text == "A cat."
            (request,) = server.requests
        assert seen.told == [("POST", f"{server.base_url}/chat/completions"), 200, "NoneType"]
        assert request.headers["traceparent"] == Seen.headers["traceparent"]

    def test_a_stream_lasts_until_it_has_been_read(self, ask, seen):
        with ScriptedLMStudio([Answer(text="A cat.")]) as server:
            ask(server.base_url, "stream", QUESTION)
        assert seen.told == [("POST", f"{server.base_url}/chat/completions"), 200, "NoneType"]

    def test_an_answer_that_says_no(self, ask, seen):
        """The request itself has been answered; what the answer means is read afterwards."""
        with ScriptedLMStudio([Status(status=503)]) as server, pytest.raises(APIError):
            ask(server.base_url, "chat", QUESTION)
        assert seen.told[1:] == [503, "NoneType"]

    def test_nobody_answers(self, ask, seen):
        with ScriptedLMStudio() as server:
            gone = server.base_url
        with pytest.raises(ConnectionError):
            ask(gone, "models")
        assert seen.told == [("GET", f"{gone}/models"), "ConnectionError"]


def test_nobody_looks():
    with ScriptedLMStudio([Answer(text="A cat.")]) as server, LMStudioClient(server.base_url) as client:
        client.chat(QUESTION)
        (request,) = server.requests
    assert "traceparent" not in request.headers
