from __future__ import annotations

import asyncio
import gzip
import pickle
import threading
import time
from email.utils import formatdate

import httpx
import httpx2
import pytest
from under_policy import CHAT, QUESTION, TARGET, policies_of

import pixel_llm
from pixel_llm import AsyncPolicyTransport, PolicyError, PolicyTransport, RetryExhausted, ValidationError, error_behind
from pixel_llm.errors import ErrorCode
from pixel_llm.lm_studio import HTTPReply, LimitedAsyncTransport
from pixel_llm.lm_studio.policy_transport import reading
from pixel_llm.lm_studio.policy_transport.bodies import close_forgotten
from pixel_llm.lm_studio.policy_transport.elsewhere import model_of
from pixel_llm.lm_studio.policy_transport.shared import _reply_behind
from pixel_llm.testing import (
    Answer,
    Drip,
    ErrorBody,
    Garbage,
    Hang,
    Refuse,
    Reset,
    ScriptedLMStudio,
    Status,
    Truncated,
)

THREE = {"max_attempts": 3, "strategy": "immediate"}
BREAKER = {"failure_threshold": 2, "cooldown": "60s"}


class TestSuccess:
    def test_passes_unchanged(self, any_clients):
        """
        Status, headers and body are the server's, and the response is of the client's own library.
        """
        with ScriptedLMStudio([Answer(text="A cat.")]) as server:
            response = any_clients.send(any_clients.transport(policies_of(retry=THREE)), server.base_url + CHAT)

        assert isinstance(response, any_clients.library.Response)
        assert (200, "A cat.") == (response.status_code, response.json()["choices"][0]["message"]["content"])
        assert "timeout=5" == response.headers["keep-alive"]
        assert [QUESTION] == [request.body for request in server.requests]

    def test_says_how_it_came_about(self, clients):
        """
        A response knows who served it and after how many attempts.
        """
        with ScriptedLMStudio([Status(status=503)]) as server:
            response = clients.send(clients.transport(policies_of(retry=THREE)), server.base_url + CHAT)

        story = {"served_by": "call", "degraded": False, "attempts": 2, "error": None}
        assert story == response.extensions["pixel_llm"]
        assert "HTTP/1.1" == response.http_version

    def test_redirects_are_the_clients(self, clients, serve, raw):
        """
        A redirect is a result: the client above follows it, or does not.
        """
        server = serve(raw.reply_with(raw.http(b"", "302 Found", "Location: /there"), raw.http({})))
        policies = policies_of(retry=THREE)

        assert 302 == clients.send(clients.transport(policies), server.address).status_code
        response = clients.send(clients.transport(policies), server.address, follow_redirects=True)
        assert f"{server.address}/there" == str(response.url)

    def test_works_without_any_layer(self, clients):
        """
        A target without layers passes everything, and leaves the client's own timeouts alone.
        """
        with ScriptedLMStudio([Status(status=500), Hang()]) as server:
            first = clients.send(clients.transport(policies_of()), server.base_url + CHAT)
            second = clients.send(clients.transport(policies_of()), server.base_url + CHAT, timeout=0.1)

        assert 500 == first.status_code
        assert isinstance(second, httpx.ReadTimeout)


class TestFailures:
    def test_a_server_error_is_tried_again(self, any_clients):
        """
        500, then success: two requests reach the server, with the same body.
        """
        with ScriptedLMStudio([Status(status=500), Answer(text="A cat.")]) as server:
            response = any_clients.send(any_clients.transport(policies_of(retry=THREE)), server.base_url + CHAT)

        assert 200 == response.status_code
        assert [QUESTION, QUESTION] == [request.body for request in server.requests]

    @pytest.mark.parametrize("date", [False, True])
    def test_retry_after_is_waited_for(self, clients, clock, serve, raw, date):
        """
        Seconds, and dates by the server's own clock, are the least that is waited.
        """
        value = formatdate(1_700_000_007, usegmt=True) if date else "7"
        headers = [f"Retry-After: {value}", f"Date: {formatdate(1_700_000_000, usegmt=True)}"]
        server = serve(raw.reply_with(raw.http({}, "429 Too Many Requests", *headers), raw.http(raw.CHAT)))
        policies = policies_of(retry={"strategy": "immediate"}, clock=clock)

        assert 200 == clients.send(clients.transport(policies), server.address).status_code
        assert [7.0] == clock.sleeps

    def test_the_last_response_is_what_is_left(self, any_clients):
        """
        When all attempts are used up the client gets the last answer, as it would without a policy.
        """
        script = [Status(status=500), Status(status=503, message="Loading model"), Status(status=502, message="Gone")]
        with ScriptedLMStudio(script) as server:
            response = any_clients.send(any_clients.transport(policies_of(retry=THREE)), server.base_url + CHAT)

        assert (502, "Gone") == (response.status_code, response.json()["error"]["message"])
        assert 3 == len(server.requests)
        with pytest.raises(any_clients.library.HTTPStatusError) as caught:
            response.raise_for_status()
        behind = error_behind(caught.value)
        assert (ErrorCode.ERR_API_SERVER_ERROR, 3, 3) == (behind.error_code, behind.attempts, len(behind.history))

    def test_wrong_key_is_not_tried_again(self, clients):
        """
        What asking again can't mend comes back at once.
        """
        with ScriptedLMStudio(api_key="right") as server:
            response = clients.send(
                clients.transport(policies_of(retry=THREE)), server.base_url + CHAT, headers={"Authorization": "no"}
            )

        assert 401 == response.status_code
        assert ErrorCode.ERR_API_UNAUTHORIZED is response.extensions["pixel_llm"]["error"].error_code
        assert 1 == len(server.requests)

    @pytest.mark.parametrize("said", ["Bearer sk-very-secret", "Basic dXNlcjp2ZXJ5LXNlY3JldA==", "Basic c2VjcmV0!"])
    def test_keys_are_not_quoted(self, clients, said):
        """
        A server that repeats the key does not bring it into our messages, nor a password by either of its names.
        """
        message = f"Wrong key: {said.partition(' ')[2]} very-secret" if "dX" in said else f"Wrong key: {said}"
        with ScriptedLMStudio([Status(status=401, message=message)]) as server:
            headers = {"Authorization": said}
            response = clients.send(clients.transport(policies_of()), server.base_url + CHAT, headers=headers)

        error = response.extensions["pixel_llm"]["error"]
        assert "secret" not in f"{error} {error.details}"
        assert said.partition(" ")[2] not in f"{error} {error.details}"

    @pytest.mark.parametrize(
        "step",
        [
            Truncated(),
            Truncated(part="json"),
            ErrorBody(message="Compute error."),
            ErrorBody(envelope="string"),
            Garbage(),
            Garbage(kind="json"),
            Reset(),
            Reset(when="body"),
        ],
        ids=str,
    )
    def test_a_broken_answer_is_tried_again(self, clients, step):
        """
        An answer that breaks off, makes no sense or says with 200 that all went wrong fails the attempt.
        """
        with ScriptedLMStudio([step, Answer(text="A cat.")]) as server:
            response = clients.send(clients.transport(policies_of(retry=THREE)), server.base_url + CHAT)

        assert "A cat." == response.json()["choices"][0]["message"]["content"]
        assert 2 == len(server.requests)

    @pytest.mark.parametrize(("step", "found"), [(ErrorBody(message="Oh."), b"Oh."), (Truncated(part="json"), b"{")])
    def test_error_bodies_may_be_results(self, clients, step, found):
        """
        A server that means something else by them is told so.
        """
        with ScriptedLMStudio([step]) as server:
            transport = clients.transport(policies_of(retry=THREE), error_bodies=False)
            response = clients.send(transport, server.base_url + CHAT)

        assert found in response.content
        assert 1 == len(server.requests)

    @pytest.mark.parametrize(
        ("body", "headers", "broken"),
        [
            (b"", [], False),
            (b'{"error": null, "id": 1}', [], False),
            (b'{"error": }', [], False),
            (b'[{"error": 1}]', [], False),
            (b'"text"', [], False),
            (b"12", [], False),
            (b"\xef\xbb\xbf{}", [], False),
            ("{}".encode("utf-16-le"), [], False),
            (b'{"error": "Channel Error"}', [], True),
            (gzip.compress(b'{"error": "Channel Error"}', mtime=0), ["Content-Encoding: gzip"], True),
            (b"\x28\xb5\x2f\xfd", ["Content-Encoding: zstd"], False),
            (b'{"choices": [', [], True),
        ],
    )
    def test_what_is_broken(self, clients, serve, raw, body, headers, broken):
        """
        Only JSON that surely is none, or that is an error and nothing else, is taken for a failure.
        """
        server = serve(raw.reply_with(raw.http(body, "200 OK", *headers), raw.http(raw.CHAT)))
        response = clients.send(clients.transport(policies_of(retry=THREE)), server.address)

        assert (2 if broken else 1) == response.extensions["pixel_llm"]["attempts"]

    def test_codings_that_cannot_be_read_are_the_clients(self, clients, serve, raw):
        """
        A body that claims to be gzip and is not comes back as it is: its client raises its own error.
        """
        server = serve(raw.reply_with(raw.http(b"no gzip", "200 OK", "Content-Encoding: gzip")))

        assert isinstance(clients.send(clients.transport(policies_of()), server.address), httpx.DecodingError)

    def test_an_endless_error_page_is_cut(self, any_clients, serve, raw, monkeypatch):
        """
        Of an error text of more than can be held only the status is left.
        """
        monkeypatch.setattr(reading, "LARGEST_HELD_BODY", 1000)
        server = serve(raw.reply_with(*[raw.http(b"x" * 2000, "500 Oh", kind="text/html")] * 3))
        response = any_clients.send(any_clients.transport(policies_of()), server.address)

        assert 500 == response.status_code
        assert "more than 1000 bytes" in response.json()["error"]["message"]

    def test_connections_are_given_back(self, clients, serve, raw):
        """
        The answers of failed attempts are read and closed: all attempts use one connection.
        """
        oh = raw.http({"error": "Oh."}, "500 Internal Server Error")
        server = serve(raw.reply_with(oh, oh, raw.http(raw.CHAT), oh, oh, oh))
        clients.send(clients.transport(policies_of(retry=THREE)), server.address, times=2)

        assert 1 == server.accepted


class TestNoResponse:
    def test_refused_connection(self, any_clients):
        """
        The client gets its library's own exception, and ours is the cause, with all that happened.
        """
        with ScriptedLMStudio() as server:
            server.refuse()
            error = any_clients.send(any_clients.transport(policies_of(retry=THREE)), server.base_url + CHAT)

        behind = error_behind(error)
        assert type(error) is any_clients.library.ConnectError
        assert error.__cause__ is behind
        assert (ErrorCode.ERR_CONN_REFUSED, 3, TARGET) == (behind.error_code, behind.attempts, behind.target)
        assert "POST" == error.request.method

    def test_a_server_that_comes_back(self, clients, clock):
        """
        A refused connection is tried again.
        """
        with ScriptedLMStudio() as server:
            server.refuse()
            server_is_up = threading.Event()

            def come_back(event):
                if not server_is_up.is_set():
                    server_is_up.set()
                    server.accept()

            policies = policies_of(retry=THREE, clock=clock, listeners=[come_back])
            response = clients.send(clients.transport(policies), server.base_url + CHAT)

        assert 200 == response.status_code

    def test_open_breaker(self, any_clients):
        """
        An open breaker refuses without touching the server; the client can catch it as a transport error.
        """
        with ScriptedLMStudio(then=Status(status=500)) as server:
            transport = any_clients.transport(policies_of(circuit_breaker=BREAKER))
            error = any_clients.send(transport, server.base_url + CHAT, times=3)

        behind = error_behind(error)
        assert type(error) is any_clients.library.TransportError
        assert isinstance(behind, pixel_llm.CircuitBreakerOpen)
        assert behind.retry_after > 50
        assert "ERR_CB_OPEN" in str(error)
        assert 2 == len(server.requests)

    def test_breaker_that_opens_ends_the_retries(self, clients):
        """
        The client gets the answer that opened it.
        """
        with ScriptedLMStudio(then=Status(status=500)) as server:
            policies = policies_of(retry=THREE, circuit_breaker=BREAKER)
            response = clients.send(clients.transport(policies), server.base_url + CHAT)

        assert 500 == response.status_code
        assert 2 == len(server.requests)

    def test_refusal_after_an_answer_is_the_answer(self, clients):
        """
        If the stack refuses a further attempt, the last answer that came is what the client gets.
        """
        with ScriptedLMStudio(then=Status(status=500, message="Mine.")) as server:
            policies = policies_of(
                retry={"max_attempts": 3, "strategy": "fixed_delay", "initial_delay": "1ms", "jitter": "none"},
                circuit_breaker={"failure_threshold": 3, "cooldown": "60s"},
                listeners=[lambda event: open_it() if event.name == "retry_scheduled" else None],
            )

            def open_it():
                for _ in range(3):
                    policies.breaker(TARGET).record_failure()

            response = clients.send(clients.transport(policies), server.base_url + CHAT)

        assert (500, "Mine.") == (response.status_code, response.json()["error"]["message"])
        assert 1 == len(server.requests)

    def test_dripped_headers_end_with_the_deadline(self, any_clients):
        """
        A server that answers byte by byte, each in time, can't outlive the deadline.
        """
        started = time.monotonic()
        with ScriptedLMStudio([Drip(part="headers", interval=0.02)]) as server:
            error = any_clients.send(any_clients.transport(policies_of(deadline="300ms")), server.base_url + CHAT)

        assert time.monotonic() - started < 2
        assert type(error) is any_clients.library.ReadTimeout
        assert ErrorCode.ERR_TIMEOUT_DEADLINE is error_behind(error).error_code

    @pytest.mark.parametrize("step", [Hang(), Drip(interval=0.02)], ids=str)
    def test_slow_attempts_are_cut(self, clients, step):
        """
        An attempt that takes longer than its timeout, in headers or body, is ended and tried again.
        """
        with ScriptedLMStudio([step, Answer(text="A cat.")]) as server:
            policies = policies_of(retry=THREE, timeout="200ms")
            response = clients.send(clients.transport(policies), server.base_url + CHAT)

        assert 200 == response.status_code
        assert 2 == response.extensions["pixel_llm"]["attempts"]

    def test_cancellation_passes(self):
        """
        A cancelled request is cancelled, and says nothing of the server.
        """
        policies = policies_of(retry=THREE, circuit_breaker={"failure_threshold": 1})

        async def main(url):
            async with httpx.AsyncClient(transport=AsyncPolicyTransport(policies, TARGET)) as client:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await client.get(url)

        with ScriptedLMStudio([Hang(path="/v1/models")]) as server:
            asyncio.run(main(f"{server.base_url}/models"))

        assert policies.breaker(TARGET).state is pixel_llm.CircuitState.CLOSED
        assert 1 == len(server.requests)


class TestRequestBodies:
    def test_uploads_are_sent_again(self, clients, tmp_path):
        """
        A body of known length is read once, and sent as often as need be.
        """
        file = tmp_path / "sound.wav"
        file.write_bytes(b"RIFF" * 1000)
        with ScriptedLMStudio([Status(status=500)]) as server, file.open("rb") as opened:
            response = clients.send(
                clients.transport(policies_of(retry=THREE)), server.base_url + CHAT, json=None, files={"file": opened}
            )

        first, second = (request.body for request in server.requests)
        assert 200 == response.status_code
        assert first == second
        assert b"RIFF" * 1000 in first

    @staticmethod
    def _pieces(is_async):
        def pieces():
            yield b'{"model": '
            yield b'"m"}'

        async def pieces_async():
            for piece in pieces():
                yield piece

        return pieces_async() if is_async else pieces()

    def test_what_is_sent_once_is_not_tried_again(self, any_clients):
        """
        A body of unknown length can't be sent again; the client gets the first answer.
        """
        with ScriptedLMStudio([Status(status=500)]) as server:
            content = self._pieces(any_clients.is_async)
            transport = any_clients.transport(policies_of(retry=THREE))
            response = any_clients.send(transport, server.base_url + CHAT, json=None, content=content)

        assert 500 == response.status_code
        assert [{"model": "m"}] == [request.body for request in server.requests]

    def test_a_connection_that_breaks_is_not_tried_again_either(self, clients):
        """
        Something may have been sent.
        """
        with ScriptedLMStudio([Reset()]) as server:
            content = self._pieces(clients.is_async)
            transport = clients.transport(policies_of(retry=THREE))
            error = clients.send(transport, server.base_url + CHAT, json=None, content=content)

        assert ErrorCode.ERR_CONN_LOST is error_behind(error).error_code
        assert 1 == error_behind(error).attempts

    def test_what_was_not_sent_yet_is_tried_again(self, clients):
        """
        If there was no connection, the body is still whole.
        """
        with ScriptedLMStudio() as server:
            server.refuse()
            policies = policies_of(
                retry=THREE, listeners=[lambda event: server.accept() if event.name == "retry_scheduled" else None]
            )
            content = self._pieces(clients.is_async)
            response = clients.send(clients.transport(policies), server.base_url + CHAT, json=None, content=content)

        assert 200 == response.status_code
        assert [{"model": "m"}] == [request.body for request in server.requests]

    def test_not_idempotent(self, clients):
        """
        The policy's word holds: what may have been sent is not sent again.
        """
        with ScriptedLMStudio([Status(status=500)]) as server:
            policies = policies_of(retry=THREE, idempotent=False)
            response = clients.send(clients.transport(policies), server.base_url + CHAT)

        assert 500 == response.status_code
        assert 1 == len(server.requests)


def event_stream(*events, gate=None, ending=b"0\r\n\r\n", stalls=False):
    """A handler that sends a head, each event as soon as *gate* lets it, and an ending unless it stalls."""

    def handler(connection):
        connection.recv(65536)
        head = "HTTP/1.1 200 OK|Content-Type: text/event-stream|Transfer-Encoding: chunked|Connection: close||"
        connection.sendall(head.replace("|", "\r\n").encode())
        for event in events:
            if gate is not None and not gate.acquire(timeout=5):
                return
            connection.sendall(b"%x\r\n%s\r\n" % (len(event), event))
        while stalls and connection.recv(65536):
            pass
        connection.sendall(ending)

    return handler


class TestStreams:
    def test_pieces_come_as_they_are_sent(self, any_clients, serve):
        """
        The attempt ends with the first event; each one reaches the client before the next is sent.
        """
        gate = threading.Semaphore(1)
        server = serve(event_stream(b"data: 1\n\n", b"data: 2\n\n", gate=gate))
        policies = policies_of(deadline="10s", timeout="5s", retry=THREE)
        response = any_clients.stream(
            any_clients.transport(policies), server.address, each=lambda chunk: gate.release()
        )

        assert response.is_closed
        assert [b"data: 1\n\n", b"data: 2\n\n"] == any_clients.chunks

    def test_the_deadline_ends_them(self, any_clients, serve):
        """
        A stream that goes on past the deadline ends with a timeout of the client's library.
        """
        server = serve(event_stream(b"data: 1\n\n", stalls=True))
        error = any_clients.stream(any_clients.transport(policies_of(deadline="300ms")), server.address)

        assert [b"data: 1\n\n"] == any_clients.chunks
        assert type(error) is any_clients.library.ReadTimeout
        assert ErrorCode.ERR_TIMEOUT_DEADLINE is error_behind(error).error_code

    def test_a_pause_is_as_long_as_an_attempt_may_be(self, clients, serve):
        """
        Each wait for a piece is bounded by the target's timeout.
        """
        server = serve(event_stream(b"data: 1\n\n", stalls=True))
        error = clients.stream(clients.transport(policies_of(timeout="300ms")), server.address)

        assert isinstance(error, httpx.ReadTimeout)
        assert ErrorCode.ERR_TIMEOUT_RESPONSE is error_behind(error).error_code

    def test_slow_consumers_meet_the_deadline_at_the_next_piece(self, clients, clock, serve):
        """
        Who reads on after the deadline gets a timeout, even if the piece is there.
        """
        server = serve(event_stream(b"data: 1\n\n", b"data: 2\n\n"))
        policies = policies_of(deadline="10s", clock=clock)
        error = clients.stream(clients.transport(policies), server.address, each=lambda chunk: clock.advance(11))

        assert ErrorCode.ERR_TIMEOUT_DEADLINE is error_behind(error).error_code

    def test_a_stream_that_breaks(self, any_clients, serve):
        """
        What breaks after the headers is raised, not tried again: part of it was delivered.
        """
        server = serve(event_stream(b"data: 1\n\n", ending=b"no chunk"))
        error = any_clients.stream(any_clients.transport(policies_of(retry=THREE)), server.address)

        assert type(error) is any_clients.library.RemoteProtocolError
        assert TARGET == error_behind(error).target
        assert 1 == server.accepted

    def test_a_stream_that_fails_at_once_is_tried_again(self, clients, serve, raw):
        """
        Until its first piece, a stream is like any other answer.
        """
        events = event_stream(b"data: 1\n\n")
        turns = iter([raw.reply_with(raw.http({}, "503 Service Unavailable", "Connection: close")), events])
        server = serve(lambda connection: next(turns)(connection))
        response = clients.stream(clients.transport(policies_of(retry=THREE)), server.address)

        assert 200 == response.status_code
        assert [b"data: 1\n\n"] == clients.chunks

    @pytest.mark.parametrize(
        "beginning",
        [
            [b'event: error\ndata: {"error":{"message":"Compute error."},"message":"Compute error."}\n\n'],
            [b'data: {"error":"Compute error."}\n\n'],
            [b"event: error\n", b'data: {"message":"Compute error."}\n\n'],
            [b"event: error\n\n"],
            [],
        ],
    )
    def test_a_stream_that_begins_with_an_error_is_tried_again(self, clients, serve, beginning):
        """
        LM Studio streams an error with status 200, or nothing at all: nothing was delivered yet.
        """
        turns = iter([event_stream(*beginning), event_stream(b"data: 1\n\n")])
        server = serve(lambda connection: next(turns)(connection))
        response = clients.stream(clients.transport(policies_of(retry=THREE)), server.address)

        assert 2 == response.extensions["pixel_llm"]["attempts"]
        assert [b"data: 1\n\n"] == clients.chunks

    def test_a_stream_of_errors_comes_back(self, any_clients, serve):
        """
        When all attempts are used up the client gets the stream with the error, as it would without a policy.
        """
        event = b'data: {"error":"The number of tokens to keep (n_keep: 9 >= n_ctx: 4)"}\n\n'
        server = serve(event_stream(event))
        response = any_clients.stream(any_clients.transport(policies_of(retry=THREE)), server.address)

        assert event == b"".join(any_clients.chunks)
        assert ErrorCode.ERR_API_CONTEXT_LENGTH is response.extensions["pixel_llm"]["error"].error_code
        assert 1 == server.accepted

    @pytest.mark.parametrize("event", [b'data: {"error":null,"n":1}\n\n', b": comment\n\n"])
    def test_streams_that_only_look_like_it(self, clients, serve, event):
        """
        What reports nothing is no error.
        """
        server = serve(event_stream(event))
        clients.stream(clients.transport(policies_of(retry=THREE)), server.address)

        assert [event] == clients.chunks

    def test_a_stream_may_end_its_attempt_at_the_headers(self, clients, serve):
        """
        Without error_bodies nobody waits for the first event; a subscription may be silent for long.
        """
        server = serve(event_stream())
        response = clients.stream(clients.transport(policies_of(retry=THREE), error_bodies=False), server.address)

        assert 1 == response.extensions["pixel_llm"]["attempts"]

    def test_a_large_answer_streams_on(self, any_clients, serve, raw, monkeypatch):
        """
        Of a body that is larger than can be held, the rest is read as it comes.
        """
        monkeypatch.setattr(reading, "LARGEST_HELD_BODY", 1000)
        body = b"[" + b"1," * 100_000 + b"1]"
        server = serve(raw.reply_with(raw.http(body)))
        any_clients.stream(any_clients.transport(policies_of(retry=THREE)), server.address)

        assert body == b"".join(any_clients.chunks)

    def test_answers_that_nobody_takes(self, serve):
        """
        An answer whose attempt came too late is closed at the next call, not held for ever.
        """
        server = serve(event_stream(b"data: 1\n\n", stalls=True))
        transport = PolicyTransport(policies_of(), TARGET)
        response = transport.handle_request(httpx.Request("GET", server.address))
        inner = response.stream._rest.response
        del response

        assert not inner.is_closed
        close_forgotten()
        assert inner.is_closed
        transport.close()


class TestFallback:
    def test_values_need_a_maker(self, clients):
        """
        A value of the policy is no HTTP response: that shows when the transport is made.
        """
        policies = policies_of(fallback=[{"default_value": "Nothing."}])

        with pytest.raises(
            ValidationError, match="serves default_value, which is no HTTP response: give make_response="
        ):
            clients.transport(policies)

    def test_made_response(self, any_clients):
        """
        A function makes the response from the request and the value.
        """
        library = any_clients.library

        def make(request, value):
            assert isinstance(request, library.Request)
            return library.Response(203, json={"text": value})

        with ScriptedLMStudio(then=Status(status=500)) as server:
            policies = policies_of(fallback=[{"default_value": "Nothing."}])
            transport = any_clients.transport(policies, make_response=make)
            response = any_clients.send(transport, server.base_url + CHAT)

        story = response.extensions["pixel_llm"]
        assert (203, {"text": "Nothing."}) == (response.status_code, response.json())
        assert ("default_value", True, 1) == (story["served_by"], story["degraded"], story["attempts"])
        assert ErrorCode.ERR_API_SERVER_ERROR is story["error"].error_code

    def test_made_nonsense(self, clients):
        """
        What is no response is the program's mistake, and is said so.
        """
        with ScriptedLMStudio(then=Status(status=500)) as server:
            policies = policies_of(fallback=["none"])
            transport = clients.transport(policies, make_response=lambda request, value: value)
            error = clients.send(transport, server.base_url + CHAT)

        assert isinstance(error, ValidationError)
        assert "make_response= must give an HTTP response (got None)" in str(error)

    def test_injected_errors_are_answers(self, any_clients):
        """
        An error that the policy injects has the status with which a server would say it.
        """
        policies = policies_of(chaos={"error": {"rate": 1, "codes": ["ERR_API_RATE_LIMIT"]}}, retry=THREE)
        with ScriptedLMStudio() as server:
            response = any_clients.send(any_clients.transport(policies), server.base_url + CHAT)

        assert (429, "ERR_API_RATE_LIMIT") == (response.status_code, response.json()["error"]["code"])
        assert 3 == response.extensions["pixel_llm"]["attempts"]
        assert () == server.requests

    @pytest.mark.parametrize(
        ("code", "name"),
        [
            ("ERR_CONN_REFUSED", "ConnectError"),
            ("ERR_CONN_TIMEOUT", "ConnectTimeout"),
            ("ERR_CONN_LOST", "ReadError"),
            ("ERR_TIMEOUT_RESPONSE", "ReadTimeout"),
            ("ERR_API_INVALID_RESPONSE", "TransportError"),
        ],
    )
    def test_other_injected_errors(self, any_clients, code, name):
        """
        And one that no server says has the exception that comes nearest.
        """
        policies = policies_of(chaos={"error": {"rate": 1, "codes": [code]}})
        error = any_clients.send(any_clients.transport(policies), "http://127.0.0.1:1/")

        assert type(error) is getattr(any_clients.library, name)

    def test_injected_results(self, clients):
        """
        An injected value needs a maker, as one of a fallback does.
        """
        policies = policies_of(chaos={"result": {"rate": 1, "value": "Nothing."}})
        with pytest.raises(ValidationError, match="serves chaos: result"):
            clients.transport(policies)

        transport = clients.transport(policies, make_response=lambda request, value: httpx.Response(200, text=value))
        assert "Nothing." == clients.send(transport, "http://127.0.0.1:1/").text

    def test_cache(self, any_clients):
        """
        The last good answer to the very same request serves when the server is down; to others it does not.
        """
        url, library = "", any_clients.library
        with ScriptedLMStudio([Answer(text="A cat.")], then=Status(status=500)) as server:
            url = server.base_url + CHAT
            policies = policies_of(fallback=[{"cache": {"ttl": "1h"}}])
            post = [
                lambda client: client.post(url, json=QUESTION, headers={"Authorization": "Bearer one"}),
                lambda client: client.post(url, json=QUESTION, headers={"Authorization": "Bearer one", "Date": "now"}),
                lambda client: client.post(url, json=QUESTION, headers={"Authorization": "Bearer two"}),
                lambda client: client.post(url, json={"model": "n"}, headers={"Authorization": "Bearer one"}),
                lambda client: client.post(f"{url}?a=1", json=QUESTION, headers={"Authorization": "Bearer one"}),
            ]
            good, cached, *others = any_clients.run(any_clients.transport(policies), *post)

        assert "cache" == cached.extensions["pixel_llm"]["served_by"]
        assert (good.json(), good.headers["content-type"]) == (cached.json(), cached.headers["content-type"])
        assert isinstance(cached, library.Response)
        assert [500, 500] == [other.status_code for other in others[:2]]
        assert "cache" != others[2].extensions["pixel_llm"]["served_by"]

    @pytest.mark.parametrize(
        "asked", [{"json": QUESTION | {"stream": True}}, {"headers": {"Accept": "text/event-stream"}}]
    )
    def test_streams_are_not_cached(self, clients, asked):
        """
        An answer that streams serves the one who asked for it.
        """
        with ScriptedLMStudio([Answer()], then=Status(status=500)) as server:
            policies = policies_of(fallback=[{"cache": {"ttl": "1h"}}])
            response = clients.send(clients.transport(policies), server.base_url + CHAT, times=2, **asked)

        assert 500 == response.status_code


class TestElsewhere:
    """Fallback steps that call something."""

    def test_another_model(self, any_clients):
        """
        The same request with another model in it, to the same server.
        """
        with ScriptedLMStudio([Status(status=500), Answer(text="Kleine Katze ü.")]) as server:
            transport = any_clients.transport(policies_of(fallback=[{"model": "small"}]))
            response = any_clients.send(transport, server.base_url + CHAT)

        assert "Kleine Katze ü." == response.json()["choices"][0]["message"]["content"]
        assert [QUESTION, QUESTION | {"model": "small"}] == [request.body for request in server.requests]
        assert response.extensions["pixel_llm"]["degraded"]

    def test_no_model_to_replace(self, clients):
        """
        A request without a model has no other one; the client gets the answer there was.
        """
        with ScriptedLMStudio([Status(status=500, path="/v1/models")]) as server:
            transport = clients.transport(policies_of(fallback=[{"model": "small"}]))
            response = clients.run(transport, lambda client: client.get(f"{server.base_url}/models"))[0]

        assert 500 == response.status_code
        assert 1 == len(server.requests)

    @pytest.mark.parametrize("address", ["http://127.0.0.1:{}/v1", "http://127.0.0.1:{}", "http://127.0.0.1:{}/v1/"])
    def test_another_endpoint(self, any_clients, address):
        """
        The same call of another server, which does not get the key of the first one.
        """
        with ScriptedLMStudio(then=Status(status=500)) as first, ScriptedLMStudio() as second:
            transport = any_clients.transport(policies_of(fallback=[{"endpoint": address.format(second.port)}]))
            headers = {"Authorization": "Bearer secret", "X-Kept": "1"}
            response = any_clients.send(transport, first.base_url + CHAT, headers=headers)

        (request,) = second.requests
        assert 200 == response.status_code
        assert (QUESTION, "/v1/chat/completions") == (request.body, request.path)
        assert (f"127.0.0.1:{second.port}", "1") == (request.headers["host"], request.headers["x-kept"])
        assert "authorization" not in request.headers

    def test_the_same_server_under_another_path(self, clients, serve, raw):
        """
        There the key is as good as before.
        """
        heads = []

        def handler(connection):
            for _ in range(2):
                heads.append(raw.read_request(connection).decode())
                connection.sendall(raw.http({}, "200 OK" if len(heads) == 2 else "500 Oh"))

        server = serve(handler)
        transport = clients.transport(policies_of(fallback=[{"endpoint": f"{server.address}/other/v2"}]))
        response = clients.send(transport, f"{server.address}/v1/chat?x=%20", headers={"Authorization": "Bearer key"})

        assert 200 == response.status_code
        assert "POST /other/v2/chat?x=%20 HTTP/1.1" == heads[1].partition("\r\n")[0]
        assert "Bearer key" in heads[1]

    def test_a_body_that_is_spent(self, clients):
        """
        What can't be sent again can't be sent elsewhere either.
        """
        content = TestRequestBodies._pieces(clients.is_async)
        with ScriptedLMStudio(then=Status(status=500)) as first, ScriptedLMStudio() as second:
            transport = clients.transport(policies_of(fallback=[{"endpoint": second.base_url}]))
            response = clients.send(transport, first.base_url + CHAT, json=None, content=content)

        assert 500 == response.status_code
        assert () == second.requests

    def test_a_function(self, any_clients):
        """
        A registered function gets the request; its response, or what the maker makes of its value, serves.
        """

        def respond(request):
            return httpx.Response(200, json={"text": f"{request.method} {request.url.path}"})

        with ScriptedLMStudio(then=Status(status=500)) as server:
            policies = policies_of(fallback=[{"custom_function": "mine"}], functions={"mine": respond})
            response = any_clients.send(any_clients.transport(policies), server.base_url + CHAT)

        assert {"text": "POST /v1/chat/completions"} == response.json()

    def test_a_function_that_gives_no_response(self, clients):
        """
        Without a maker that is a mistake in the program.
        """
        with ScriptedLMStudio(then=Status(status=500)) as server:
            policies = policies_of(fallback=[{"custom_function": "mine"}], functions={"mine": lambda request: "text"})
            error = clients.send(clients.transport(policies), server.base_url + CHAT)

        assert isinstance(error, ValidationError)
        assert "served 'text', which is no HTTP response" in str(error)


class TestTimeouts:
    """The client's own timeouts beside the policy's."""

    @pytest.mark.parametrize("library", [httpx, httpx2])
    def test_httpx_default_gives_way(self, clients, clock, library):
        """
        Five seconds are what httpx takes where nobody said anything; the policy says something.
        """
        clients.library = library
        with ScriptedLMStudio([Answer()], on_step=lambda step: clock.advance(20)) as server:
            policies = policies_of(deadline="60s", clock=clock)
            response = clients.send(clients.transport(policies), server.base_url + CHAT)

        assert 200 == response.status_code

    def test_others_hold(self, clients):
        """
        Who gives the client a timeout means it.
        """
        with ScriptedLMStudio([Hang()]) as server:
            error = clients.send(clients.transport(policies_of(deadline="60s")), server.base_url + CHAT, timeout=0.1)

        assert ErrorCode.ERR_TIMEOUT_RESPONSE is error_behind(error).error_code

    def test_another_transport_gets_them(self, any_clients):
        """
        A transport that knows no limits is told what is left, in the way that it understands.
        """
        seen = []

        def handler(request):
            seen.append(request.extensions["timeout"])
            return any_clients.library.Response(200)

        wrapped = any_clients.library.MockTransport(handler)
        policies = policies_of(deadline="60s", timeout={"attempt": "30s", "connect": "2s"})
        any_clients.send(
            any_clients.transport(policies, wrapped), "http://h", timeout=any_clients.library.Timeout(40, read=3)
        )

        assert {"connect": 2, "read": 3} == {name: seen[0][name] for name in ("connect", "read")}
        assert 29 < seen[0]["write"] <= 30
        assert 29 < seen[0]["pool"] <= 30


class TestWrapped:
    def test_another_library_below(self, any_clients):
        """
        Requests and responses are built anew where httpx and httpx2 meet.
        """
        other = httpx if any_clients.library is httpx2 else httpx2
        wrapped = (other.AsyncHTTPTransport if any_clients.is_async else other.HTTPTransport)(trust_env=False)
        with ScriptedLMStudio([Reset(), Answer(text="A cat."), Status(status=500), Truncated()]) as server:
            transport = any_clients.transport(policies_of(retry={"max_attempts": 2, "strategy": "immediate"}), wrapped)
            good = any_clients.send(transport, server.base_url + CHAT)
            wrapped = (other.AsyncHTTPTransport if any_clients.is_async else other.HTTPTransport)(trust_env=False)
            transport = any_clients.transport(policies_of(retry={"max_attempts": 2, "strategy": "immediate"}), wrapped)
            bad = any_clients.send(transport, server.base_url + CHAT)

        assert isinstance(good, any_clients.library.Response)
        assert 200 == good.status_code
        assert type(bad) is any_clients.library.RemoteProtocolError
        assert ErrorCode.ERR_CONN_LOST is error_behind(bad).error_code

    def test_anything_that_handles_requests(self, clients):
        """
        A transport need not derive from httpx's.
        """

        class Plain:
            def handle_request(self, request):
                return httpx.Response(200, content=request.content)

            async def handle_async_request(self, request):
                return httpx.Response(200, content=request.content)

            def close(self):
                pass

            async def aclose(self):
                pass

        response = clients.send(clients.transport(policies_of(), Plain()), "http://h", json=[1])
        assert [1] == response.json()

    def test_strange_exceptions(self, clients):
        """
        What is no exception of a request becomes a plain one of transports.
        """

        def handler(request):
            raise httpx.InvalidURL("Oh.")

        error = clients.send(clients.transport(policies_of(), httpx.MockTransport(handler)), "http://h")

        assert type(error) is httpx.TransportError
        assert "Oh." == str(error_behind(error).__cause__)

    def test_wrong_input(self, any_clients):
        """
        Mistakes of the program come through as they are, and are not tried again.
        """
        calls = []

        def handler(request):
            calls.append(request)
            raise ValidationError("Mine.")

        wrapped = any_clients.library.MockTransport(handler)
        error = any_clients.send(any_clients.transport(policies_of(retry=THREE), wrapped), "http://h")

        assert isinstance(error, ValidationError)
        assert 1 == len(calls)

    def test_its_own_retries_are_refused(self, clients):
        """
        Two layers that retry would multiply.
        """
        wrapped = httpx.AsyncHTTPTransport(retries=2) if clients.is_async else httpx.HTTPTransport(retries=2)

        with pytest.raises(ValidationError, match="retries connections by itself"):
            clients.transport(policies_of(), wrapped)

    def test_slow_strangers_run_in_a_thread(self):
        """
        Nothing can interrupt a stranger's sync transport; the caller returns in time all the same.
        """
        release = threading.Event()

        def handler(request):
            release.wait(5)
            return httpx.Response(200)

        transport = PolicyTransport(policies_of(timeout="100ms"), TARGET, httpx.MockTransport(handler))
        with httpx.Client(transport=transport) as client, pytest.raises(httpx.ReadTimeout) as caught:
            client.get("http://h")
        release.set()

        assert ErrorCode.ERR_TIMEOUT_REQUEST is error_behind(caught.value).error_code


class TestMaking:
    """What is wrong shows when the transport is made, or is said in the first exception."""

    def test_wrong_policies(self, clients):
        with pytest.raises(ValidationError, match=r"must be what load_policies\(\) gives"):
            clients.transport("production")

    def test_unknown_target(self):
        with pytest.raises(PolicyError, match=r"no target 'shop.aks'; did you mean"):
            PolicyTransport(policies_of(), "shop.aks")

    def test_a_class_is_no_transport(self):
        with pytest.raises(ValidationError, match="must be a transport with"):
            PolicyTransport(policies_of(), TARGET, httpx.HTTPTransport)

    def test_no_transport(self):
        with pytest.raises(ValidationError, match=r"must be a transport with handle_request\(\)"):
            PolicyTransport(policies_of(), TARGET, httpx.AsyncHTTPTransport())

    def test_wrong_world(self):
        """
        The twins are easily mistaken for each other.
        """

        async def main():
            client = httpx.AsyncClient(transport=PolicyTransport(policies_of(), TARGET))
            with pytest.raises(ValidationError, match="an async client needs AsyncPolicyTransport"):
                await client.get("http://h")

        asyncio.run(main())
        client = httpx.Client(transport=AsyncPolicyTransport(policies_of(), TARGET))
        with pytest.raises(ValidationError, match="a sync client needs PolicyTransport"):
            client.get("http://h")

    def test_repr(self, clients):
        assert f"{TARGET!r} over <" in repr(clients.transport(policies_of()))


class TestHTTPReply:
    """What functions that a policy names get to see."""

    def test_reads_like_a_response(self):
        body = b'{"usage": {"total_tokens": 7}}'
        headers = ((b"Content-Type", b"application/json; charset=utf-8"), (b"Content-Encoding", b"gzip"))
        reply = HTTPReply(200, headers, gzip.compress(body))

        assert (body, {"total_tokens": 7}) == (reply.content, reply.usage)
        assert "gzip" == reply.headers["content-encoding"]

    @pytest.mark.parametrize(
        ("kind", "body"), [(b"text/plain", b'{"usage": 1}'), (b"application/json", b"[1]"), (b"application/json", b"{")]
    )
    def test_no_usage(self, kind, body):
        assert HTTPReply(200, ((b"content-type", kind),), body).usage is None

    def test_results_that_were_rejected(self):
        """
        When retries on results are used up the client gets the last result.
        """
        error = RetryExhausted()
        error.last_result = reply = HTTPReply(200, ())
        assert reply is _reply_behind(error)

        error.last_result = "something else"
        assert _reply_behind(error) is None


class TestEverywhere:
    def test_one_async_client_in_several_event_loops(self):
        """
        Each loop has its own connections, so a client may outlive a loop.
        """
        client = httpx.AsyncClient(transport=AsyncPolicyTransport(policies_of(retry=THREE), TARGET))

        async def ask(url):
            return (await client.get(url)).status_code

        with ScriptedLMStudio() as server:
            assert [200, 200] == [asyncio.run(ask(f"{server.base_url}/models")) for _ in range(2)]
        assert {"GET"} == {request.method for request in server.requests}

    def test_connections_that_cancellation_has_lost_are_closed(self, serve, raw):
        """
        What httpcore forgot when it was cancelled is closed by the next request; what is in use is not.
        """
        server = serve(raw.reply_with(raw.http(raw.CHAT)))

        async def main():
            transport = LimitedAsyncTransport()
            ask = lambda: transport.handle_async_request(httpx.Request("GET", server.address))  # noqa: E731 - thrice
            responses = [await ask(), await ask()]
            del transport._pool._requests[0]
            responses.append(await ask())
            left = len(transport._pool.connections)
            body = await responses[1].aread()
            await transport.aclose()
            return left, body

        left, body = asyncio.run(main())
        assert 2 == left
        assert b"A cat." in body

    def test_many_threads(self):
        """
        One transport serves them all; each request is answered once.
        """
        with ScriptedLMStudio([Status(status=500), Reset()] * 10) as server:
            transport = PolicyTransport(policies_of(retry={"max_attempts": 30, "strategy": "immediate"}), TARGET)
            found = []
            with httpx.Client(transport=transport) as client:
                ask = lambda number: found.append(  # noqa: E731 - what a thread runs
                    client.post(server.base_url + CHAT, json={"model": f"{number}"}).json()["model"]
                )
                threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

        assert sorted(map(str, range(20))) == sorted(found)
        assert 40 == len(server.requests)

    def test_tls_connections_are_made_when_needed(self, clients):
        """
        https goes to connections with certificates; this server does not speak TLS, which is a connection error.
        """
        with ScriptedLMStudio() as server:
            error = clients.send(clients.transport(policies_of()), server.base_url.replace("http:", "https:") + CHAT)

        assert isinstance(error, httpx.ConnectError)
        assert ErrorCode.ERR_CONN_UNAVAILABLE is error_behind(error).error_code

    def test_wrong_addresses(self, clients):
        """
        httpx's own complaint, with ours behind it.
        """
        error = clients.send(clients.transport(policies_of(retry=THREE)), "ftp://h/")

        assert isinstance(error, httpx.UnsupportedProtocol)


class TestErrorBehind:
    def test_nothing_of_ours(self):
        """
        Other exceptions have none, however they hang together.
        """
        one, two = ValueError(), KeyError()
        one.__cause__, two.__cause__ = two, one

        assert error_behind(one) is None
        assert error_behind(None) is None
        assert error_behind(httpx.HTTPStatusError("", request=None, response=httpx.Response(500))) is None

    def test_answers_are_not_pickled(self):
        """
        The error of an answer crosses a process pool as a plain APIError, without the answer.
        """
        with (
            ScriptedLMStudio([Status(status=500)]) as server,
            httpx.Client(transport=PolicyTransport(policies_of(), TARGET)) as client,
        ):
            error = client.post(server.base_url + CHAT, json=QUESTION).extensions["pixel_llm"]["error"]
        copy = pickle.loads(pickle.dumps(error))

        assert type(copy) is pixel_llm.APIError
        assert (500, 1) == (copy.details["status"], copy.attempts)
        assert not hasattr(copy, "reply")


def test_refuse_then_serve(clients):
    """
    A port that is shut for a while is a reason to ask again.
    """
    with ScriptedLMStudio([Refuse(seconds=0.1)]) as server:
        retry = {"max_attempts": 5, "strategy": "fixed_delay", "initial_delay": "100ms", "jitter": "none"}
        assert 200 == clients.send(clients.transport(policies_of(retry=retry)), server.base_url + CHAT).status_code


class TestBreakersOfKeys:
    @pytest.mark.parametrize(("per", "kept"), [("endpoint", 1), ("model", 2)])
    def test_know_endpoint_and_model(self, clients, per, kept):
        """
        A breaker per endpoint or per model finds them in the request.
        """
        policies = policies_of(circuit_breaker={"per": per})
        transport = clients.transport(policies)
        with ScriptedLMStudio([Answer(text="A cat.")]) as server:
            for model in ("small", "large"):
                clients.send(transport, server.base_url + CHAT, json=QUESTION | {"model": model})
                transport = clients.transport(policies)
            address = server.base_url.removesuffix("/v1")

        keys = list(policies.breakers(TARGET))
        assert kept == len(keys)
        assert ([address] if per == "endpoint" else ["small", "large"]) == keys

    @pytest.mark.parametrize("body", [b"", b"[]", b'{"model": 7}', b"no JSON"])
    def test_of_a_request_that_names_no_model(self, body):
        """
        Such requests share the breaker of no model.
        """
        assert model_of(httpx.Request("POST", "http://127.0.0.1/v1", content=body)) is None
