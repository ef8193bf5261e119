"""A request under a policy tells the server which request of the program's it belongs to."""

from __future__ import annotations

from under_policy import CHAT, QUESTION, policies_of

import pixel_llm
from pixel_llm.testing import Answer, ScriptedLMStudio, Status

THREE = {"max_attempts": 3, "strategy": "immediate"}


def pieces():
    yield b'{"model": '
    yield b'"m"}'


async def pieces_async():
    for piece in pieces():
        yield piece


def test_is_told_to_the_server(any_clients):
    """
    Each attempt of a call carries the id of the request that is being served; outside of one there is none.
    """
    policies = policies_of(retry=THREE)
    with ScriptedLMStudio([Status(status=500), Answer()], then=Answer()) as server:
        with pixel_llm.LogContext(request_id="req-7"):
            any_clients.send(any_clients.transport(policies), server.base_url + CHAT)
        response = any_clients.send(any_clients.transport(policies), server.base_url + CHAT)

    assert 200 == response.status_code
    assert ["req-7", "req-7", None] == [request.headers.get("x-request-id") for request in server.requests]
    assert [QUESTION] * 3 == [request.body for request in server.requests]


def test_is_that_of_the_request_if_it_has_one(clients):
    """
    What the program sends itself stands, and stands once.
    """
    with ScriptedLMStudio() as server, pixel_llm.LogContext(request_id="req-7"):
        transport = clients.transport(policies_of())
        clients.send(transport, server.base_url + CHAT, headers={"X-REQUEST-ID": "mine"})

    assert ["mine"] == [request.headers["x-request-id"] for request in server.requests]


def test_a_request_that_is_sent_again_has_the_id_of_then(clients):
    """
    The client's own request object is left alone: sent once more it carries what is served by then.
    """
    with ScriptedLMStudio(then=Answer()) as server:
        request = clients.library.Request("POST", server.base_url + CHAT, json=QUESTION)
        for request_id in ("first", "second"):
            with pixel_llm.LogContext(request_id=request_id):
                clients.run(clients.transport(policies_of()), lambda client: client.send(request))

    assert ["first", "second"] == [request.headers["x-request-id"] for request in server.requests]
    assert "x-request-id" not in request.headers


def test_goes_with_bodies_that_are_sent_once(clients):
    """
    A body that streams, and is not held, has the header as well.
    """
    with ScriptedLMStudio() as server, pixel_llm.LogContext(request_id="req-7"):
        body = pieces_async() if clients.is_async else pieces()
        clients.send(clients.transport(policies_of()), server.base_url + CHAT, json=None, content=body)

    assert ["req-7"] == [request.headers["x-request-id"] for request in server.requests]


def test_tells_no_answers_apart(clients):
    """
    The cache serves a request under another id: the id says nothing about the answer.
    """
    policies = policies_of(fallback=[{"cache": {"ttl": "1h"}}])
    with ScriptedLMStudio([Answer(text="A cat.")], then=Status(status=500)) as server:
        for request_id in ("first", "second"):
            with pixel_llm.LogContext(request_id=request_id):
                response = clients.send(clients.transport(policies), server.base_url + CHAT)

    assert "cache" == response.extensions["pixel_llm"]["served_by"]
    assert ["first", "second"] == [request.headers["x-request-id"] for request in server.requests]
