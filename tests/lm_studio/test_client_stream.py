"""Streams over sockets, bare and under a policy."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from under_policy import TARGET, policies_of

from pixel_llm.errors import APIError, ErrorCode, PixelLMError
from pixel_llm.lm_studio import ChatRequest, LMStudioClient
from pixel_llm.testing import Answer, BrokenStream, Drip, EmptyChoices, Hang, ModelLoad, ScriptedLMStudio, Status

REQUEST = ChatRequest(model="qwen2.5-vl-7b-instruct", prompt="What is it?")


class Streams:
    """Reads streams of a client, in one world."""

    def __init__(self, world: str) -> None:
        self.is_async = world == "async"

    def method(self, client):
        return client.stream_async if self.is_async else client.stream

    def read(self, client, stream=None, times=1):
        """The chunks of one stream, or of several in a row, and what the last one ended in."""
        method = stream or self.method(client)
        chunks, failure = [], None
        if not self.is_async:
            with client:
                for _ in range(times):
                    try:
                        chunks += method(REQUEST)
                    except PixelLMError as error:
                        failure = error
            return chunks, failure

        async def run():
            nonlocal failure
            async with client:
                for _ in range(times):
                    try:
                        async for chunk in method(REQUEST):
                            chunks.append(chunk)
                    except PixelLMError as error:
                        failure = error

        asyncio.run(run())
        return chunks, failure


@pytest.fixture(params=["sync", "async"])
def streams(request):
    return Streams(request.param)


def texts(chunks):
    return [chunk.text for chunk in chunks]


class TestStream:
    def test_a_healthy_stream(self, streams):
        """
        Words as they come, then the closing chunk with the usage, which is asked for.
        """
        with ScriptedLMStudio([Answer(text="A small cat.")]) as server:
            chunks, failure = streams.read(LMStudioClient(server.base_url))
            (request,) = server.requests

        assert (["A", " small", " cat.", ""], None) == (texts(chunks), failure)
        assert ("stop", 3, "qwen2.5-vl-7b-instruct") == (
            chunks[-1].finish_reason,
            chunks[-1].completion_tokens,
            chunks[-1].model,
        )
        assert (True, {"include_usage": True}) == (request.body["stream"], request.body["stream_options"])

    def test_chunks_arrive_while_the_server_speaks(self, streams):
        """
        The first one is there long before the last.
        """
        with ScriptedLMStudio([Drip(text="a b c d e f", part="chunks", interval=0.05)]) as server:
            client = LMStudioClient(server.base_url)
            started = time.monotonic()

            if streams.is_async:

                async def first():
                    async with client:
                        stream = client.stream_async(REQUEST)
                        chunk = await anext(stream)
                        await stream.aclose()
                        return chunk

                chunk = asyncio.run(first())
            else:
                with client, contextlib.closing(client.stream(REQUEST)) as stream:
                    chunk = next(stream)

            assert "a" == chunk.text
            assert time.monotonic() - started < 0.25

    @pytest.mark.parametrize("step", [Answer(text="A cat."), Drip(text="A cat.", interval=0.0)])
    def test_the_connection_is_used_again(self, streams, step, serve, raw):
        """
        A stream that has ended gives its connection back.
        """
        with ScriptedLMStudio(then=step) as server:
            client = LMStudioClient(server.base_url)
            _, failure = streams.read(client, times=3)
            connections = len(server._connections)

        assert (None, 1) == (failure, connections)

    def test_a_server_that_goes_silent_after_done(self, streams, serve, raw):
        """
        The answer is complete: nobody waits for HTTP's end.
        """

        def handler(connection):
            raw.read_request(connection)
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
                b'data: {"choices": [{"delta": {"content": "A cat."}}]}\n\ndata: [DONE]\n\n'
            )
            raw.hang(connection)

        started = time.monotonic()
        chunks, failure = streams.read(LMStudioClient(serve(handler).address))

        assert (["A cat.", ""], None) == (texts(chunks), failure)
        assert time.monotonic() - started < 1

    def test_leaving_early_ends_the_connection(self, streams, serve, raw):
        """
        The server notices, and can stop to generate.
        """
        with ScriptedLMStudio([Drip(part="chunks", text="a b c d e f", interval=0.02)]) as server:
            client = LMStudioClient(server.base_url)
            if streams.is_async:

                async def leave():
                    async with client:
                        async with contextlib.aclosing(client.stream_async(REQUEST)) as stream:
                            await anext(stream)
                        pool = await client._connections.of_this_process.loop_pool()
                        return len(pool.connections)

                left = asyncio.run(leave())
            else:
                with client:
                    with contextlib.closing(client.stream(REQUEST)) as stream:
                        next(stream)
                    left = len(client._connections.of_this_process.pool().connections)

        assert 0 == left

    def test_another_model_answers(self, streams):
        """
        The chunks say who.
        """
        with ScriptedLMStudio([Answer(model="other")]) as server:
            chunks, _ = streams.read(LMStudioClient(server.base_url))

        assert {"other"} == {chunk.model for chunk in chunks}

    @pytest.mark.parametrize("part", ["headers", "body"])
    def test_a_dripped_stream_ends_at_the_deadline(self, streams, part, limited):
        """
        No single read takes long; all of them together do.
        """
        with ScriptedLMStudio([Drip(part=part, interval=0.02)]) as server, limited(within=0.3):
            started = time.monotonic()
            _, failure = streams.read(LMStudioClient(server.base_url))

            assert time.monotonic() - started < 0.8

        assert ErrorCode.ERR_TIMEOUT_RESPONSE is failure.error_code

    def test_endless_streams_are_cut(self, streams, serve, raw):
        """
        No server fills the memory.
        """

        def handler(connection):
            raw.read_request(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            while True:
                connection.sendall(b": " + b"x" * 100_000 + b"\n")

        _, failure = streams.read(LMStudioClient(serve(handler).address))

        assert isinstance(failure, APIError)
        assert ErrorCode.ERR_API_INVALID_RESPONSE is failure.error_code
        assert str(failure).endswith("is longer than is taken: more than 16777216 bytes")


class TestUnderAPolicy:
    def guarded(self, streams, server, **layers):
        client = LMStudioClient(server.base_url)
        policies = policies_of(**layers)
        return client, policies.wrap(TARGET, streams.method(client), cooperative=True)

    @pytest.mark.parametrize(
        "bad",
        [
            Status(status=503),
            BrokenStream(how="error_event", chunks=0),
            BrokenStream(how="end", chunks=0),
            BrokenStream(how="reset", chunks=0),
            EmptyChoices(),
            Answer(text=""),
            Answer(text=" \n "),
        ],
        ids=str,
    )
    def test_what_fails_before_the_first_content_is_tried_again(self, streams, bad):
        """
        Nothing is given before real content, so a stream is committed no sooner.
        """
        with ScriptedLMStudio([bad, Answer(text="A cat.")]) as server:
            client, stream = self.guarded(streams, server, retry={"max_attempts": 2, "strategy": "immediate"})
            chunks, failure = streams.read(client, stream)

        assert (["A", " cat.", ""], None) == (texts(chunks), failure)

    @pytest.mark.parametrize("how", ["error_event", "error", "end", "text", "truncated", "reset"])
    def test_what_breaks_later_is_raised(self, streams, how):
        """
        With what had arrived; the server is asked once.
        """
        with ScriptedLMStudio([BrokenStream(how=how), Answer(text="A cat.")]) as server:
            client, stream = self.guarded(streams, server, retry={"max_attempts": 2, "strategy": "immediate"})
            chunks, failure = streams.read(client, stream)

            assert 1 == len(server.requests)
        assert (["A", " picture"], 2) == (texts(chunks), failure.arrived.chunks)

    @pytest.mark.parametrize(
        ("step", "code"),
        [
            (BrokenStream(how="hang"), ErrorCode.ERR_TIMEOUT_IDLE),
            (BrokenStream(how="hang", chunks=0), ErrorCode.ERR_TIMEOUT_RESPONSE),
            (Hang(), ErrorCode.ERR_TIMEOUT_RESPONSE),
            (ModelLoad(seconds=5), ErrorCode.ERR_TIMEOUT_RESPONSE),
        ],
        ids=str,
    )
    def test_silence(self, streams, step, code):
        """
        The time to the first content, and between chunks, is the policy's, down to the socket.
        """
        with ScriptedLMStudio([step]) as server:
            client, stream = self.guarded(streams, server, timeout={"first_token": "300ms", "idle": "300ms"})
            started = time.monotonic()
            _, failure = streams.read(client, stream)

            assert time.monotonic() - started < 1.5
        assert code is failure.error_code
