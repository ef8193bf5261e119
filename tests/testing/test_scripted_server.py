"""The scripted LM Studio, seen through raw sockets and through httpx."""

from __future__ import annotations

import errno
import gc
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pixel_llm.errors import ValidationError
from pixel_llm.testing import (
    Answer,
    Crash,
    Drip,
    EmptyChoices,
    ErrorBody,
    Garbage,
    Hang,
    ModelLoad,
    Refuse,
    Reset,
    ScriptedLMStudio,
    Status,
    Step,
    Truncated,
    VirtualClock,
    WrongType,
)

CHAT = {"model": "qwen2.5-vl-7b-instruct", "messages": [{"role": "user", "content": "What is this?"}]}


class Client:
    """A raw socket that notes every piece it reads, and how the connection ended."""

    def __init__(self, server: ScriptedLMStudio) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        self.pieces: list[bytes] = []

    def ask(self, method: str = "POST", path: str = "/v1/chat/completions", body: bytes | None = None) -> Client:
        body = json.dumps(CHAT).encode() if body is None else body
        head = f"{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode() + body)
        return self

    def read_to_the_end(self) -> str:
        """Read until the connection ends; "close" or "reset"."""
        with self.socket:
            while True:
                try:
                    piece = self.socket.recv(65536)
                except ConnectionResetError:
                    return "reset"
                if not piece:
                    return "close"
                self.pieces.append(piece)

    @property
    def received(self) -> bytes:
        return b"".join(self.pieces)

    def split(self) -> tuple[bytes, bytes, int]:
        """Head, body, and the length that the head promises."""
        head, _, body = self.received.partition(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        return head, body, int(length.split(b":")[1])


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5, trust_env=False) as client:
        yield client


def chat(client: httpx.Client, server: ScriptedLMStudio, **changes: object) -> httpx.Response:
    return client.post(f"{server.base_url}/chat/completions", json=CHAT | changes)


def content(response: httpx.Response) -> str:
    return str(response.json()["choices"][0]["message"]["content"])


def refuses(server: ScriptedLMStudio) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
    except (ConnectionRefusedError, ConnectionResetError):  # reset: met the port in the act of closing
        return True
    return False


def wait_until_open(server: ScriptedLMStudio) -> None:
    """Wait, in real time, for the port to take connections again."""
    began = time.monotonic()
    while refuses(server):
        assert time.monotonic() - began < 3
        time.sleep(0.005)


class TestAnswers:
    def test_shape(self, client):
        """
        An answer has every part of a chat completion of LM Studio's.
        """
        with ScriptedLMStudio([Answer(text="A cat.")]) as server:
            answer = chat(client, server).json()

        assert {"id", "object", "created", "model", "choices", "usage", "stats", "system_fingerprint"} == set(answer)
        assert "chat.completion" == answer["object"]
        assert "qwen2.5-vl-7b-instruct" == answer["model"]
        assert {"role": "assistant", "content": "A cat.", "tool_calls": []} == answer["choices"][0]["message"]
        assert "stop" == answer["choices"][0]["finish_reason"]
        assert (
            answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]
        )

    def test_fields(self, client):
        """
        Reasoning without content, a cut answer and another model are fields of an answer.
        """
        step = Answer(text="", reasoning_content="Hm.", finish_reason="length", model="other")
        with ScriptedLMStudio([step]) as server:
            answer = chat(client, server).json()
        choice = answer["choices"][0]

        assert ("", "Hm.", "length") == (
            choice["message"]["content"],
            choice["message"]["reasoning_content"],
            choice["finish_reason"],
        )
        assert "other" == answer["model"]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Say it.\nDescription of the picture: a red square.\nBe brief.", "A picture: a red square."),
            (
                "In colour. Main colours: light blue 55 % (in the upper part), green 31 %, red 7 %, black 1 %. Even.",
                "A picture in light blue, green and red.",
            ),
            ("Main colours: white 100 % (over the whole picture).", "A picture in white."),
            ("The picture, measured:\n\nmostly blue.", "A picture: mostly blue."),
            ("A square picture of 8x8 pixels, red.", "A picture: A square picture of 8x8 pixels, red."),
            (f"Image: {'x' * 500}", f"A picture: {'x' * 160}"),
        ],
    )
    def test_made_up_caption_takes_up_the_description(self, client, text, expected):
        """
        Without a text of its own the answer repeats how the request describes the picture.
        """
        parts = [{"type": "image_url", "image_url": {"url": "data:,"}}, {"type": "text", "text": text}]
        with ScriptedLMStudio() as server:
            response = chat(client, server, messages=[{"role": "user", "content": parts}])

        assert expected == content(response)

    def test_made_up_caption_depends_on_the_request_only(self, client):
        """
        The same request gets the same caption, another request another one.
        """
        with ScriptedLMStudio() as server:
            first, again, other = (content(chat(client, server, seed=seed)) for seed in (1, 1, 2))

        assert first == again
        assert first != other

    def test_order_then_and_pending(self, client):
        """
        Steps are taken in order, `then` serves for ever, and more can be added meanwhile.
        """
        with ScriptedLMStudio([Answer(text="1"), Answer(text="2")], then=Answer(text="then")) as server:
            left = [server.pending]
            texts = []
            for _ in range(4):
                texts.append(content(chat(client, server)))
                left.append(server.pending)
            server.extend([Answer(text="5")])
            texts.append(content(chat(client, server)))

        assert ["1", "2", "then", "then", "5"] == texts
        assert [2, 1, 0, 0, 0] == left

    def test_records_requests(self, client):
        """
        What came in is recorded with the step that answered it.
        """
        step = Answer(text="x", path=None)
        with ScriptedLMStudio([step]) as server:
            chat(client, server)
            client.post(f"{server.base_url}/chat/completions?x=1", content=b"\xff")
            first, second = server.requests

        assert ("POST", "/v1/chat/completions", CHAT) == (first.method, first.path, first.body)
        assert "application/json" == first.headers["content-type"]
        assert first.step is step
        assert ("/v1/chat/completions", b"\xff") == (second.path, second.body)
        assert "What is this?" not in repr(first)

    def test_one_connection_serves_many_requests(self):
        """
        Connections are kept alive, and a request that came early is not lost.
        """
        with ScriptedLMStudio([Answer(text="1"), Answer(text="2")], keep_alive=0.05) as server:
            client = Client(server)
            client.ask().ask()
            ending = client.read_to_the_end()

        assert "close" == ending
        assert 2 == client.received.count(b"HTTP/1.1 200 OK")
        assert client.received.index(b'"content":"1"') < client.received.index(b'"content":"2"')

    def test_idle_connection_is_closed(self):
        """
        A connection without a request is closed after the keep-alive time.
        """
        with ScriptedLMStudio(keep_alive=0.05) as server:
            ending = Client(server).read_to_the_end()

        assert "close" == ending

    def test_connection_close_is_honoured(self):
        """
        A client that says so gets its connection closed after the answer.
        """
        with ScriptedLMStudio() as server:
            client = Client(server)
            client.socket.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            ending = client.read_to_the_end()

        assert "close" == ending
        assert b"Connection: close" in client.received

    def test_expect_continue(self):
        """
        A client that waits for 100 Continue before a large body is told to go on.
        """
        with ScriptedLMStudio() as server:
            client = Client(server)
            head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            client.socket.sendall(head + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            go_on = client.socket.recv(100)
            client.socket.sendall(b"{}")
            client.read_to_the_end()

        assert b"HTTP/1.1 100 Continue\r\n\r\n" == go_on
        assert client.received.startswith(b"HTTP/1.1 200 OK")

    def test_no_http(self):
        """
        What is no HTTP gets 400 and takes no step.
        """
        with ScriptedLMStudio([Hang()]) as server:
            client = Client(server)
            client.socket.sendall(b"\x16\x03\x01\x00\xa5\r\n\r\n")
            client.read_to_the_end()

            assert 1 == server.pending
        assert client.received.startswith(b"HTTP/1.1 400 ")


class TestManners:
    def test_models(self, client):
        """
        Both lists of models are there without a script.
        """
        with ScriptedLMStudio(models=("a", "b")) as server:
            new = client.get(f"{server.base_url}/models").json()
            old = client.get(f"{server.base_url}/models".replace("/v1/", "/api/v0/")).json()

        assert ["a", "b"] == [model["id"] for model in new["data"]]
        assert ["loaded", "loaded"] == [model["state"] for model in old["data"]]

    @pytest.mark.parametrize(("method", "path"), [("POST", "/chat/completions"), ("GET", "/v1/chat/completions")])
    def test_wrong_path_or_method(self, client, method, path):
        """
        A wrong path or method answers 200 with an error, as LM Studio does, and takes no step.
        """
        with ScriptedLMStudio([Hang()]) as server:
            response = client.request(method, f"http://127.0.0.1:{server.port}{path}")

            assert 1 == server.pending
        assert 200 == response.status_code
        assert {"error": f"Unexpected endpoint or method. ({method} {path})"} == response.json()

    @pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "right"}])
    def test_wrong_key(self, client, headers):
        """
        Where a key is asked for, a wrong one or none gets 401 and takes no step.
        """
        with ScriptedLMStudio([Hang()], api_key="right") as server:
            response = client.post(f"{server.base_url}/chat/completions", json=CHAT, headers=headers)

            assert 1 == server.pending
        assert (401, "invalid_api_key") == (response.status_code, response.json()["error"]["code"])

    def test_right_key(self, client):
        """
        The right key opens everything.
        """
        client.headers["Authorization"] = "Bearer right"
        with ScriptedLMStudio(api_key="right") as server:
            response = chat(client, server)

        assert 200 == response.status_code

    def test_unknown_model(self, client):
        """
        With check_model an unknown model gets 400, the error names those there are.
        """
        with ScriptedLMStudio(models=("a",), check_model=True) as server:
            unknown, known = chat(client, server, model="b"), chat(client, server, model="a")

        assert (400, "model_not_found") == (unknown.status_code, unknown.json()["error"]["code"])
        assert "(e.g., a)" in unknown.json()["error"]["message"]
        assert 200 == known.status_code

    def test_unknown_models_can_not_be_loaded(self, client):
        """
        Nor can they by LM Studio's own API.
        """
        with ScriptedLMStudio(models=("a",), check_model=True) as server:
            loads = [
                client.post(server.base_url.removesuffix("/v1") + "/api/v1/models/load", json={"model": name})
                for name in "ba"
            ]

        assert [400, 200] == [load.status_code for load in loads]

    def test_step_with_a_path(self, client):
        """
        A step with a path waits for that path, chats pass by it.
        """
        with ScriptedLMStudio([Status(status=500, path="/v1/models"), Answer(text="A cat.")]) as server:
            text = content(chat(client, server))
            statuses = [client.get(f"{server.base_url}/models").status_code for _ in range(2)]

        assert "A cat." == text
        assert [500, 200] == statuses


class TestErrors:
    @pytest.mark.parametrize(
        ("envelope", "expected"),
        [
            ("string", {"error": "Loading model"}),
            ("nested", {"error": {"message": "Loading model", "type": None, "param": None, "code": None}}),
            ("nested+message", {"error": {"message": "Loading model"}, "message": "Loading model"}),
        ],
    )
    def test_envelopes(self, client, envelope, expected):
        """
        Each envelope comes with an error status and with 200.
        """
        steps = [
            Status(status=503, message="Loading model", envelope=envelope),
            ErrorBody(message="Loading model", envelope=envelope),
        ]
        with ScriptedLMStudio(steps) as server:
            responses = [chat(client, server) for _ in steps]

        assert [503, 200] == [response.status_code for response in responses]
        assert [expected, expected] == [response.json() for response in responses]

    @pytest.mark.parametrize(
        ("retry_after", "expected"),
        [(None, None), (2, "2"), (0.5, "0.5"), ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT")],
    )
    def test_retry_after(self, client, retry_after, expected):
        """
        Retry-After is sent as it is written.
        """
        with ScriptedLMStudio([Status(status=429, retry_after=retry_after)]) as server:
            response = chat(client, server)

        assert expected == response.headers.get("Retry-After")

    @pytest.mark.parametrize("status", [204, 304, 404, 599])
    def test_any_status(self, client, status):
        """
        Any status is served, and the connection is sound afterwards.
        """
        with ScriptedLMStudio([Status(status=status), Answer(text="A cat.")]) as server:
            statuses = [chat(client, server).status_code for _ in range(2)]

        assert [status, 200] == statuses

    def test_type_and_code(self, client):
        """
        The nested envelope carries type and code, with HTTP 200 too.
        """
        with ScriptedLMStudio([ErrorBody(type="model_load_failed", code="x")]) as server:
            error = chat(client, server).json()["error"]

        assert ("model_load_failed", "x") == (error["type"], error["code"])

    def test_empty_choices(self, client):
        """
        A completion may come without any choice.
        """
        with ScriptedLMStudio([EmptyChoices()]) as server:
            answer = chat(client, server).json()

        assert [] == answer["choices"]

    def test_wrong_type(self, client):
        """
        A proxy's HTML page says that it is HTML.
        """
        with ScriptedLMStudio([WrongType(status=502)]) as server:
            response = chat(client, server)

        assert (502, "text/html") == (response.status_code, response.headers["Content-Type"])
        assert response.text.startswith("<!DOCTYPE html>")

    @pytest.mark.parametrize("step", [Truncated(part="json"), Garbage(kind="json")])
    def test_no_json_in_sound_http(self, client, step):
        """
        HTTP is whole and calls it JSON, but no parser can read it.
        """
        with ScriptedLMStudio([step]) as server:
            response = chat(client, server)

        assert response.headers["Content-Type"].startswith("application/json")
        with pytest.raises(json.JSONDecodeError):
            response.json()


class TestBrokenConnections:
    def test_reset_before_any_byte(self):
        """
        The connection is reset, not closed, and no byte has come.
        """
        with ScriptedLMStudio([Reset()]) as server:
            client = Client(server).ask()
            ending = client.read_to_the_end()

        assert ("reset", b"") == (ending, client.received)

    def test_reset_in_mid_body(self):
        """
        The head and a part of the body come, then a reset.
        """
        with ScriptedLMStudio([Reset(when="body")]) as server:
            client = Client(server).ask()
            ending = client.read_to_the_end()
        head, body, promised = client.split()

        assert "reset" == ending
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert 0 < len(body) < promised

    def test_truncated_body(self):
        """
        The connection is closed cleanly before all the promised bytes have come.
        """
        with ScriptedLMStudio([Truncated()]) as server:
            client = Client(server).ask()
            ending = client.read_to_the_end()
        _, body, promised = client.split()

        assert "close" == ending
        assert 0 < len(body) < promised

    def test_truncated_body_in_httpx(self, client):
        """
        httpx calls it a protocol error.
        """
        with ScriptedLMStudio([Truncated()]) as server, pytest.raises(httpx.RemoteProtocolError):
            chat(client, server)

    def test_garbage(self, client):
        """
        Bytes that are no HTTP are a protocol error for a client.
        """
        with ScriptedLMStudio([Garbage()]) as server, pytest.raises(httpx.RemoteProtocolError):
            chat(client, server)


class TestSlowness:
    def test_hang(self, client):
        """
        The request is taken and nothing ever comes.
        """
        with ScriptedLMStudio([Hang()]) as server:
            with pytest.raises(httpx.ReadTimeout):
                client.post(f"{server.base_url}/chat/completions", json=CHAT, timeout=httpx.Timeout(5, read=0.05))

            assert 0 == server.pending

    def test_hang_ends_when_the_client_leaves(self):
        """
        A hanging connection costs a thread only while the client is there.
        """
        with ScriptedLMStudio([Hang()]) as server:
            client = Client(server).ask()
            server.wait_for_requests(1)
            busy = _connection_threads()
            client.socket.close()
            for thread in busy:
                thread.join(1)

            assert 1 == len(busy)
            assert [] == _connection_threads()

    def test_model_load(self, client):
        """
        The first answer waits for the model.
        """
        with ScriptedLMStudio([ModelLoad(seconds=0.1, text="A cat.")]) as server:
            began = time.monotonic()
            response = chat(client, server)

        assert "A cat." == content(response)
        assert time.monotonic() - began >= 0.1

    @pytest.mark.parametrize("part", ["headers", "body"])
    def test_drip(self, part):
        """
        One part comes byte by byte, the other one at once, and all of it is a sound response.
        """
        with ScriptedLMStudio([Drip(part=part, interval=0.002, text="A cat.")], keep_alive=0.05) as server:
            began = time.monotonic()
            client = Client(server).ask()
            client.read_to_the_end()
        head, body, promised = client.split()
        slow = len(head) + 4 if part == "headers" else promised

        assert promised == len(body)
        assert "A cat." == json.loads(body)["choices"][0]["message"]["content"]
        assert slow // 4 < sum(len(piece) == 1 for piece in client.pieces) <= slow  # a busy machine joins some
        assert time.monotonic() - began >= 0.002 * (slow - 1)

    def test_drip_outlives_a_timeout_for_each_read(self, client):
        """
        No single read is late, so a timeout for each read sees nothing wrong.
        """
        with ScriptedLMStudio([Drip(part="headers", interval=0.012)]) as server:
            began = time.monotonic()
            response = client.post(f"{server.base_url}/chat/completions", json=CHAT, timeout=1.2)

        assert 200 == response.status_code
        assert time.monotonic() - began > 1.6


class TestDownAndUp:
    def test_refuse_at_the_start(self, client):
        """
        The port refuses first, then the same port serves.
        """
        began = time.monotonic()
        with ScriptedLMStudio([Refuse(seconds=0.2), Answer(text="A cat.")]) as server:
            with pytest.raises(httpx.ConnectError):
                chat(client, server)
            wait_until_open(server)
            waited = time.monotonic() - began
            text = content(chat(client, server))

        assert 0.2 <= waited < 2
        assert "A cat." == text

    def test_refuse_after_a_step(self, client):
        """
        The refusal begins with the end of the step before it: no request slips in between.
        """
        script = [Answer(text="1"), Refuse(seconds=0.1), Refuse(seconds=0.1), Answer(text="2")]
        with ScriptedLMStudio(script) as server:
            began = time.monotonic()
            first = chat(client, server)
            with pytest.raises(httpx.ConnectError):
                chat(client, server)
            left = server.pending
            wait_until_open(server)
            waited = time.monotonic() - began
            second = chat(client, server)

        assert ["1", "2"] == [content(first), content(second)]
        assert "close" == first.headers["Connection"]
        assert 1 == left
        assert 0.2 <= waited < 2

    def test_refuse_after_a_client_has_left(self):
        """
        A client that gives up on a hanging request does not hold the script up.
        """
        begun = {Hang: threading.Event(), Refuse: threading.Event()}
        with ScriptedLMStudio([Hang(), Refuse(seconds=60)], on_step=lambda step: begun[type(step)].set()) as server:
            client = Client(server).ask()
            begun[Hang].wait(2)
            before = refuses(server)
            client.socket.close()
            begun[Refuse].wait(2)

            assert (False, True) == (before, refuses(server))

    def test_refuse_and_accept(self, client):
        """
        refuse() closes the port and the idle connections, accept() opens the same port.
        """
        with ScriptedLMStudio() as server:
            chat(client, server)
            idle = Client(server)
            server.refuse()
            down = refuses(server)
            ending = idle.read_to_the_end()
            server.accept()
            response = chat(client, server)

        assert down
        assert "close" == ending
        assert 200 == response.status_code

    def test_accept_ends_a_refusal_early(self):
        """
        A test that has seen enough of a refusal ends it.
        """
        with ScriptedLMStudio([Refuse(seconds=60)]) as server:
            before = refuses(server)
            server.accept()

            assert (True, False) == (before, refuses(server))

    def test_extend_with_a_refusal(self):
        """
        A refusal that nothing is left in front of begins when it is added.
        """
        with ScriptedLMStudio() as server:
            server.extend([Refuse(seconds=60), Answer()])

            assert refuses(server)
            assert 1 == server.pending

    def test_crash(self, client):
        """
        A crash resets every connection, refuses, and comes back on the same port.
        """
        with ScriptedLMStudio([Hang(), Crash(down=0.2), Answer(text="A cat.")]) as server:
            began = time.monotonic()
            hanging = Client(server).ask()
            server.wait_for_requests(1)
            idle = Client(server)
            endings = [Client(server).ask().read_to_the_end()]
            down = refuses(server)
            endings += [other.read_to_the_end() for other in (hanging, idle)]
            wait_until_open(server)
            waited = time.monotonic() - began
            text = content(chat(client, server))

        assert ["reset", "reset", "reset"] == endings
        assert down
        assert 0.2 <= waited < 2
        assert "A cat." == text

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port cannot be bound twice")
    def test_port_stays_ours_while_it_refuses(self):
        """
        Nobody else is given the port in the meantime, though nobody listens there.
        """
        with ScriptedLMStudio([Refuse(seconds=60)]) as server, socket.socket() as other:
            error = other.connect_ex(("127.0.0.1", server.port))
            with pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", server.port))

        assert errno.ECONNREFUSED == error


class TestOnStep:
    def test_sees_each_step_as_it_begins(self, client):
        """
        The callback hears of scripted steps only, and before anything of them is sent.
        """
        script = [Answer(text="1"), Refuse(seconds=0.02), Status(status=503)]
        seen: list[tuple[Step, int]] = []
        with ScriptedLMStudio(script, on_step=lambda step: seen.append((step, len(server.requests)))) as server:
            chat(client, server)
            wait_until_open(server)
            client.get(f"{server.base_url}/models")
            chat(client, server)
            chat(client, server)

        assert [(script[0], 1), (script[1], 1), (script[2], 3), (Answer(), 4)] == seen

    def test_moves_a_virtual_clock_when_a_hang_begins(self):
        """
        The clock has moved while the request is still hanging.
        """
        clock = VirtualClock()
        moved = threading.Event()

        def pass_time(step: Step) -> None:
            clock.advance(30)
            moved.set()

        with ScriptedLMStudio([Hang()], on_step=pass_time) as server:
            client = Client(server).ask()

            assert moved.wait(2)
            assert 1030.0 == clock.monotonic()
        client.socket.close()

    def test_may_refuse_before_the_answer(self, client):
        """
        A server taken down by the callback still gives its answer, and says that it closes.
        """
        with ScriptedLMStudio(on_step=lambda step: server.refuse()) as server:
            response = chat(client, server)

            assert refuses(server)
        assert "close" == response.headers["Connection"]

    def test_error_in_the_callback(self, monkeypatch):
        """
        A callback that raises costs its connection, and the error is reported, not swallowed.
        """
        reported: list[type[BaseException] | None] = []
        monkeypatch.setattr(threading, "excepthook", lambda arguments: reported.append(arguments.exc_type))
        with ScriptedLMStudio(on_step=lambda step: 1 / 0) as server:
            client = Client(server).ask()
            ending = client.read_to_the_end()

        assert ("close", b"") == (ending, client.received)
        assert [ZeroDivisionError] == reported


class TestConcurrency:
    def test_each_request_takes_one_step(self, client):
        """
        Steps and records are neither lost nor doubled under load.
        """
        script = [Answer(text=f"{number}") for number in range(200)]
        texts: list[str] = []

        def ask() -> None:
            with httpx.Client(timeout=5, trust_env=False) as own:
                texts.extend(content(chat(own, server)) for _ in range(20))

        with ScriptedLMStudio(script) as server:
            threads = [threading.Thread(target=ask) for _ in range(10)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            answered = [request.step for request in server.requests]

        assert sorted(texts, key=int) == [str(number) for number in range(200)]
        assert script == answered


class TestStartAndClose:
    def test_close_ends_everything_at_once(self):
        """
        Hanging, dripping, loading and refusing servers close in an instant.
        """
        for script in ([Hang()], [Drip(interval=60)], [ModelLoad(seconds=60)], [Answer(), Refuse(seconds=60)]):
            with ScriptedLMStudio(script) as server:
                client = Client(server).ask()
                server.wait_for_requests(1)
                began = time.monotonic()
            ending = client.read_to_the_end()

            assert "close" == ending
            assert time.monotonic() - began < 1

    def test_close_ends_a_send_that_nobody_reads(self):
        """
        A client that stops reading cannot keep the server.
        """
        with ScriptedLMStudio([Answer(text="x" * 20_000_000)]) as server:
            client = Client(server).ask()
            client.socket.recv(1)
            began = time.monotonic()
        client.socket.close()

        assert time.monotonic() - began < 1

    def test_nothing_leaks(self, client):
        """
        After close() no thread and no socket is left, whatever state they were in.
        """
        client.close()
        gc.collect()
        threads, sockets = set(threading.enumerate()), _open_files()
        script = [Answer(), Hang(), Drip(interval=60), Crash(down=60)]
        with ScriptedLMStudio(script) as server:
            clients = []
            for number in range(len(script)):
                clients.append(Client(server).ask())
                server.wait_for_requests(number + 1)
        for other in clients:
            other.socket.close()

        assert threads == set(threading.enumerate())
        assert sockets == _open_files()

    def test_closed_server_refuses(self):
        """
        Closing frees the port; closing again does nothing.
        """
        server = ScriptedLMStudio().start()
        server.close()
        server.close()

        assert refuses(server)
        assert not server.requests

    def test_connections_do_not_pile_up(self):
        """
        A server that lives long forgets the connections that are over.
        """
        with ScriptedLMStudio() as server:
            for _ in range(50):
                assert not refuses(server)

            assert len(server._connections) < 40

    def test_starts_fast(self):
        """
        A server for each test takes next to no time of the processor.
        """
        times = []
        for _ in range(20):
            began = time.process_time()
            with ScriptedLMStudio():
                times.append(time.process_time() - began)

        assert min(times) < 0.05

    def test_port_in_use(self):
        """
        A taken port is an error in one line.
        """
        with ScriptedLMStudio() as server, pytest.raises(ValidationError) as caught:
            ScriptedLMStudio(port=server.port).start()

        assert f"cannot listen on 127.0.0.1:{server.port}: Address already in use" == str(caught.value)

    def test_extend_before_the_start(self, client):
        """
        A script can be put together before the server starts.
        """
        server = ScriptedLMStudio([Answer(text="1")])
        server.extend([Answer(text="2")])
        with server:
            texts = [content(chat(client, server)) for _ in range(2)]

        assert ["1", "2"] == texts

    def test_starts_once(self):
        """
        A script begins once; another run takes another server.
        """
        with ScriptedLMStudio() as server, pytest.raises(ValidationError, match="started only once"):
            server.start()

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ({"script": [Hang]}, "must be a step such as Hang() (got <class"),
            ({"then": Refuse()}, "then must be a step that answers requests (got refuse)"),
            ({"then": Hang(path="/x")}, "then must have no path"),
        ],
    )
    def test_wrong_arguments(self, arguments, expected):
        """
        What cannot work is said before the server starts.
        """
        with pytest.raises(ValidationError) as caught:
            ScriptedLMStudio(**arguments)

        assert str(caught.value).startswith(expected)


def _connection_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lm-studio-connection"]


def _open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(os.listdir(folder)) if folder.exists() else 0  # noqa: PTH208 - as short as it gets
