"""The official client through a policy, unchanged but for its transport."""

from __future__ import annotations

import asyncio
import logging
import time
import warnings

import openai
import pytest
from under_policy import QUESTION, TARGET, policies_of

import pixel_llm
from pixel_llm import DoubleRetryWarning, error_behind
from pixel_llm.errors import ErrorCode
from pixel_llm.testing import Answer, Drip, ErrorBody, Hang, ScriptedLMStudio, Status

THREE = {"max_attempts": 3, "strategy": "immediate"}


class OpenAI:
    """The sync or the async client over a policy."""

    def __init__(self, clients, policies, base_url, **options):
        kind = openai.AsyncOpenAI if clients.is_async else openai.OpenAI
        http = clients.library.AsyncClient if clients.is_async else clients.library.Client
        options = {"max_retries": 0, "api_key": "lm-studio"} | options
        self.is_async = clients.is_async
        self._make = lambda: kind(base_url=base_url, http_client=http(transport=clients.transport(policies)), **options)

    def ask(self, times=1, **changes):
        """What each call gives: the model's text, the pieces of a stream, or what was raised."""
        return asyncio.run(self._ask_async(times, changes)) if self.is_async else self._ask(times, changes)

    def _ask(self, times, changes):
        found = []
        with self._make() as client:
            for _ in range(times):
                try:
                    answer = client.chat.completions.create(**QUESTION | changes)
                    found.append(
                        [chunk.choices[0].delta.content for chunk in answer]
                        if changes.get("stream")
                        else answer.choices[0].message.content
                    )
                except openai.OpenAIError as error:
                    found.append(error)
        return found

    async def _ask_async(self, times, changes):
        found = []
        async with self._make() as client:
            for _ in range(times):
                try:
                    answer = await client.chat.completions.create(**QUESTION | changes)
                    found.append(
                        [chunk.choices[0].delta.content async for chunk in answer]
                        if changes.get("stream")
                        else answer.choices[0].message.content
                    )
                except openai.OpenAIError as error:
                    found.append(error)
        return found


def test_chat(any_clients):
    """
    A chat completion comes through as it is.
    """
    with ScriptedLMStudio([Answer(text="A cat.")], api_key="lm-studio") as server:
        assert ["A cat."] == OpenAI(any_clients, policies_of(retry=THREE), server.base_url).ask()


def test_the_policy_retries(any_clients):
    """
    500, then success: the server sees exactly two requests.
    """
    with ScriptedLMStudio([Status(status=500), Answer(text="A cat.")]) as server:
        assert ["A cat."] == OpenAI(any_clients, policies_of(retry=THREE), server.base_url).ask()
        assert 2 == len(server.requests)


def test_errors_with_status_200(clients):
    """
    LM Studio's errors that come with 200, of which openai makes an object without choices, are tried again.
    """
    with ScriptedLMStudio([ErrorBody(message="Model is unloaded."), Answer(text="A cat.")]) as server:
        assert ["A cat."] == OpenAI(clients, policies_of(retry=THREE), server.base_url).ask()


@pytest.mark.parametrize("after", [7, "Fri, 31 Dec 1999 23:59:59 GMT"])
def test_retry_after(clients, clock, after):
    """
    The server's demand is kept on the policy's clock; openai sleeps nowhere. A date gone by is no wait.
    """
    with ScriptedLMStudio([Status(status=429, retry_after=after), Answer(text="A cat.")]) as server:
        policies = policies_of(retry={"strategy": "immediate"}, clock=clock)

        assert ["A cat."] == OpenAI(clients, policies, server.base_url).ask()
        assert ([7.0] if after == 7 else []) == clock.sleeps


def test_openais_own_errors(any_clients):
    """
    When all attempts are used up, openai raises what it would without a policy, and ours can be found.
    """
    with ScriptedLMStudio(then=Status(status=429, message="Slow down.", retry_after=0)) as server:
        (error,) = OpenAI(any_clients, policies_of(retry=THREE), server.base_url).ask()

    assert type(error) is openai.RateLimitError
    assert "Slow down." == error.body["message"]
    assert (ErrorCode.ERR_API_RATE_LIMIT, 3) == (error_behind(error).error_code, error_behind(error).attempts)


def test_wrong_key(clients):
    """
    A wrong key is seen at once.
    """
    with ScriptedLMStudio(api_key="right") as server:
        (error,) = OpenAI(clients, policies_of(retry=THREE), server.base_url, api_key="wrong").ask()

    assert type(error) is openai.AuthenticationError
    assert 1 == len(server.requests)


def test_refused_connection(any_clients):
    """
    openai says "Connection error."; what was wrong, and how often it was tried, is behind it.
    """
    with ScriptedLMStudio() as server:
        server.refuse()
        (error,) = OpenAI(any_clients, policies_of(retry=THREE), server.base_url).ask()

    assert type(error) is openai.APIConnectionError
    assert type(error.__cause__) is any_clients.library.ConnectError
    assert (ErrorCode.ERR_CONN_REFUSED, 3) == (error_behind(error).error_code, error_behind(error).attempts)


def test_open_breaker(any_clients):
    """
    The breaker opens, and refuses without touching the server.
    """
    with ScriptedLMStudio(then=Status(status=500)) as server:
        policies = policies_of(circuit_breaker={"failure_threshold": 2, "cooldown": "60s"})
        *failed, refused = OpenAI(any_clients, policies, server.base_url).ask(times=3)

    assert [openai.InternalServerError] * 2 == [type(error) for error in failed]
    assert type(refused) is openai.APIConnectionError
    assert isinstance(error_behind(refused), pixel_llm.CircuitBreakerOpen)
    assert 2 == len(server.requests)
    assert pixel_llm.CircuitState.OPEN is policies.breaker(TARGET).state


@pytest.mark.parametrize("step", [Drip(part="headers", interval=0.02), Hang()], ids=["drip", "hang"])
def test_deadline(any_clients, step):
    """
    Dripped headers, and silence, end with the deadline, as a timeout of openai's.
    """
    with ScriptedLMStudio([step]) as server:
        started = time.monotonic()
        (error,) = OpenAI(any_clients, policies_of(deadline="300ms", retry=THREE), server.base_url).ask()

    assert time.monotonic() - started < 2
    assert type(error) is openai.APITimeoutError
    assert ErrorCode.ERR_TIMEOUT_DEADLINE is error_behind(error).error_code
    assert 1 == len(server.requests)


def test_stream(any_clients, serve, raw):
    """
    A stream that fails at once is tried again; then its chunks arrive while the server still sends.
    """
    head = '{"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": '
    chunk = head + '[{"index": 0, "delta": {"content": "%s"}}]}'
    turns = iter(["fails", "streams"])

    def handler(connection):
        raw.read_request(connection)
        if next(turns) == "fails":
            connection.sendall(raw.http({"error": "Loading model"}, "503 Service Unavailable", "Connection: close"))
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for text in ("A ", "cat."):
            connection.sendall(f"data: {chunk % text}\n\n".encode())
        connection.sendall(b"data: [DONE]\n\n")

    server = serve(handler)
    policies = policies_of(retry=THREE, deadline="10s", timeout="5s")

    assert [["A ", "cat."]] == OpenAI(any_clients, policies, f"{server.address}/v1").ask(stream=True)
    assert 2 == server.accepted


def test_stream_past_the_deadline(any_clients, serve, raw):
    """
    A stream that goes silent ends with the deadline; its error leads to ours.
    """

    def handler(connection):
        raw.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hello\n\n")
        raw.hang(connection)

    (error,) = OpenAI(any_clients, policies_of(deadline="300ms"), serve(handler).address).ask(stream=True)

    assert type(error) is openai.APITimeoutError
    assert ErrorCode.ERR_TIMEOUT_DEADLINE is error_behind(error).error_code


class TestDoubleRetries:
    """openai retries twice unless told otherwise."""

    @pytest.fixture(autouse=True)
    def _no_waits(self, monkeypatch):
        for client in (openai.OpenAI, openai.AsyncOpenAI):
            monkeypatch.setattr(client, "_calculate_retry_timeout", lambda *args, **kwargs: 0.0)

    def test_are_warned_of(self, clients, caplog):
        """
        The first retry from above is told, once, with what to do.
        """
        with ScriptedLMStudio(then=Status(status=500)) as server, caplog.at_level(logging.WARNING, "pixel_llm"):
            client = OpenAI(clients, policies_of(retry=THREE), server.base_url, max_retries=2)
            with pytest.warns(DoubleRetryWarning, match="max_retries=0") as caught:
                client.ask(times=2)

        assert 1 == len(caught)
        assert ["max_retries=0" in record.message for record in caplog.records] == [True]
        assert 2 * 9 == len(server.requests)

    def test_are_none_where_they_are_off(self, clients):
        """
        No warning without a reason.
        """
        with ScriptedLMStudio(then=Status(status=500)) as server, warnings.catch_warnings():
            warnings.simplefilter("error")
            OpenAI(clients, policies_of(retry=THREE), server.base_url).ask(times=2)

        assert 6 == len(server.requests)

    def test_are_fine_where_the_policy_has_neither_retries_nor_deadline(self, clients):
        """
        Then there is nothing to multiply with, and nothing to outlive.
        """
        with ScriptedLMStudio([Status(status=500)]) as server, warnings.catch_warnings():
            warnings.simplefilter("error")
            policies = policies_of(circuit_breaker={"failure_threshold": 5})

            assert OpenAI(clients, policies, server.base_url, max_retries=2).ask()
