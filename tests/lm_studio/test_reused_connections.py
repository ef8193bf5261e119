"""A server that closes idle connections costs nobody an attempt; see LimitedPool."""

from __future__ import annotations

import asyncio
import socket
import struct
import time

import httpx
import pytest

from pixel_llm.errors import ErrorCode, PixelLMError
from pixel_llm.lm_studio import ChatRequest, LimitedAsyncTransport, LimitedTransport, LMStudioClient
from pixel_llm.resilience.limits import Limits, publish, reset_published

REQUEST = ChatRequest(model="some-model", prompt="What is it?")


def close(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


ENDS = pytest.mark.parametrize("end", [close, reset])


class Server:
    """Does to its connections, in their order, what *plans* say: a list of steps for each, one a request."""

    def __init__(self, raw, *plans):
        self.raw, self.plans, self.requests = raw, list(plans), []

    def __call__(self, connection):
        for step in self.plans.pop(0):
            self.requests.append(self.raw.read_request(connection))
            if isinstance(step, bytes):
                connection.sendall(step)
            else:
                step(connection)


def ask(world, client, times):
    """What each of some calls in a row gives: a text, or a code."""

    def note(error):
        return error.error_code

    found = []
    if world.name == "sync":
        with client:
            for _ in range(times):
                try:
                    found.append(client.chat(REQUEST).text)
                except PixelLMError as error:
                    found.append(note(error))
        return found

    async def run():
        async with client:
            for _ in range(times):
                try:
                    found.append((await client.chat_async(REQUEST)).text)
                except PixelLMError as error:
                    found.append(note(error))

    asyncio.run(run())
    return found


LOST = ErrorCode.ERR_CONN_LOST


class TestFreeRetry:
    @ENDS
    def test_a_reused_connection_that_ends_without_a_byte(self, end, world, serve, raw):
        """
        The request is sent once more on a new connection, and nobody is told.
        """
        answer = raw.http(raw.CHAT)
        behaviour = Server(raw, [answer, end], [answer, answer])
        server = serve(behaviour)

        assert ["A cat."] * 3 == ask(world, LMStudioClient(server.address), 3)
        assert (2, 4) == (server.accepted, len(behaviour.requests))
        assert 1 == len(set(behaviour.requests))

    @ENDS
    def test_a_new_connection_that_ends_without_a_byte(self, end, world, serve, raw):
        """
        It was no idle one: the failure is the caller's to know.
        """
        behaviour = Server(raw, [end], [raw.http(raw.CHAT)])

        assert [LOST, "A cat."] == ask(world, LMStudioClient(serve(behaviour).address), 2)
        assert 2 == len(behaviour.requests)

    @ENDS
    def test_only_once(self, end, world, serve, raw):
        """
        The second connection is new, so its end is told.
        """
        behaviour = Server(raw, [raw.http(raw.CHAT), end], [end], [raw.http(raw.CHAT)])

        assert ["A cat.", LOST, "A cat."] == ask(world, LMStudioClient(serve(behaviour).address), 3)
        assert 4 == len(behaviour.requests)

    @ENDS
    @pytest.mark.parametrize(
        "part", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]
    )
    def test_never_after_a_byte_of_the_answer(self, end, part, world, serve, raw):
        """
        The server had begun to work on it.
        """

        def begin(connection):
            connection.sendall(part)
            time.sleep(0.05)  # so that a reset does not overtake it
            end(connection)

        behaviour = Server(raw, [raw.http(raw.CHAT), begin], [raw.http(raw.CHAT)])

        assert ["A cat.", LOST] == ask(world, LMStudioClient(serve(behaviour).address), 2)
        assert 2 == len(behaviour.requests)

    def test_silence_is_no_end(self, world, serve, raw, limited):
        """
        A server that takes its time has the request.
        """
        behaviour = Server(raw, [raw.http(raw.CHAT), raw.hang], [raw.http(raw.CHAT)])
        client = LMStudioClient(serve(behaviour).address, timeout=0.2)

        assert ["A cat.", ErrorCode.ERR_TIMEOUT_RESPONSE] == ask(world, client, 2)
        assert 2 == len(behaviour.requests)

    @ENDS
    def test_within_the_same_limits(self, end, world, serve, raw):
        """
        The second sending has only the time that the first has left.
        """

        def late(connection):
            time.sleep(0.25)
            end(connection)

        behaviour = Server(raw, [raw.http(raw.CHAT), late], [raw.hang])
        client = LMStudioClient(serve(behaviour).address)
        limits = None

        def limit():
            nonlocal limits
            limits = Limits(deadline=time.monotonic() + 0.4)
            return publish(limits)

        started = None
        if world.name == "sync":
            client.chat(REQUEST)
            started, token = time.monotonic(), limit()
            with pytest.raises(PixelLMError) as caught:
                client.chat(REQUEST)
            reset_published(token)
            client.close()
        else:

            async def run():
                nonlocal started
                async with client:
                    await client.chat_async(REQUEST)
                    started = time.monotonic()
                    limit()
                    with pytest.raises(PixelLMError) as caught:
                        await client.chat_async(REQUEST)
                    return caught

            caught = asyncio.run(run())

        assert ErrorCode.ERR_TIMEOUT_DEADLINE is caught.value.error_code
        assert time.monotonic() - started < 0.8

    @ENDS
    def test_other_idle_connections_are_not_tried_first(self, end, serve, raw):
        """
        When the server has closed one idle connection, it has closed all: a new one is opened at once.
        """
        answer = raw.http(raw.CHAT)

        async def run():
            async with LMStudioClient(serve(behaviour).address) as client:
                await asyncio.gather(*(client.chat_async(REQUEST) for _ in range(3)))
                return (await client.chat_async(REQUEST)).text

        behaviour = Server(raw, *[[answer, end]] * 3, [answer])

        assert "A cat." == asyncio.run(run())
        assert 5 == len(behaviour.requests)

    @ENDS
    def test_streams(self, end, serve, raw):
        """
        It is the same for them.
        """
        event = b'data: {"choices": [{"delta": {"content": "A cat."}}]}\n\ndata: [DONE]\n\n'
        stream = raw.http(event, kind="text/event-stream")
        behaviour = Server(raw, [stream, end], [stream])
        with LMStudioClient(serve(behaviour).address) as client:
            assert ["A cat.", ""] * 2 == [chunk.text for _ in range(2) for chunk in client.stream(REQUEST)]


class TestTransports:
    """The transports have it, too, for bodies that are in memory."""

    @ENDS
    @pytest.mark.parametrize(("content", "expected"), [(b"{}", 200), (None, 200), ([b"{}"], None)])
    def test_bodies(self, end, content, expected, serve, raw):
        """
        What is streamed can't be sent again.
        """
        behaviour = Server(raw, [raw.http(raw.CHAT), end], [raw.http(raw.CHAT)])
        address = serve(behaviour).address
        body = iter(content) if isinstance(content, list) else content

        with httpx.Client(transport=LimitedTransport(False)) as client:
            client.get(address)
            try:
                status = client.post(address, content=body).status_code
            except httpx.TransportError:
                status = None

        assert expected == status

    @ENDS
    def test_async(self, end, serve, raw):
        """
        The async twin.
        """
        behaviour = Server(raw, [raw.http(raw.CHAT), end], [raw.http(raw.CHAT)])

        async def run():
            async with httpx.AsyncClient(transport=LimitedAsyncTransport(False)) as client:
                return [(await client.get(address)).status_code for _ in range(2)]

        address = serve(behaviour).address
        assert [200, 200] == asyncio.run(run())
