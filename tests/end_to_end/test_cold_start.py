"""Models that are not loaded yet: one load for all callers, on real sockets."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack

import pytest
from fleet import CHAT, MODEL, RED, WAYS, make_fleet

from pixel_llm.errors import APIError, ErrorCode, TimeoutError
from pixel_llm.testing import Answer, ErrorBody, Hang, ModelLoad, Status, VirtualClock

LOAD = "/api/v1/models/load"


@pytest.fixture(params=WAYS)
def fleet(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ExitStack() as exits:
        yield make_fleet(exits, request.param)


@pytest.fixture
def fleet_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ExitStack() as exits:
        yield lambda way, *servers, **options: make_fleet(exits, way)(*servers, **options)


def loading(seconds, **options):
    """A server whose model takes so long to load, the first time."""
    return {"loaded": (), "script": [ModelLoad(seconds=seconds, path=LOAD)], **options}


def test_one_load_for_twenty_callers(fleet):
    """
    Twenty first calls at once have the model loaded once, and each has its whole timeout after that.
    """
    fleet = fleet(loading(0.6), target={"timeout": "500ms"}, cold_start={"grace": "30s"})

    results = fleet.ask_at_once(20)

    assert [20] == [sum(getattr(result, "text", "") != "" for result in results)]
    assert [1] == fleet.loads()
    assert [20] == fleet.chats()
    (event,) = _news_of_loads(fleet)
    assert ("model_loaded", CHAT, fleet.servers[0].base_url, MODEL) == (
        event.name, event.target, event.endpoint, event.model
    )  # fmt: skip
    assert event.elapsed >= 0.6


def test_a_loaded_model_is_asked_at_once(fleet):
    """
    What is loaded already is not loaded again, and the list is not asked for again at once.
    """
    fleet = fleet({}, cold_start={"grace": "30s"})
    for _ in range(3):
        fleet.ask()

    assert [0] == fleet.loads()
    assert 1 == fleet.count(fleet.servers[0], "/api/v1/models")


def test_callers_that_leave_early(fleet):
    """
    Whose deadline ends first fails with a timeout that nobody counts, while the load goes on for the others.
    """
    fleet = fleet(
        loading(0.8),
        target={"deadline": "300ms", "circuit_breaker": {"failure_threshold": 1}},
        cold_start={"grace": "30s"},
    )

    with pytest.raises(TimeoutError) as raised:
        fleet.ask()

    assert ErrorCode.ERR_TIMEOUT_DEADLINE is raised.value.error_code
    assert 0 == raised.value.attempts
    assert [0] == fleet.chats()
    assert "closed" == fleet.model.policies.breaker(CHAT).state.value
    _wait_for(lambda: _is_warm(fleet))
    assert fleet.ask().text
    assert [1] == fleet.loads()


def test_they_may_fall_back(fleet):
    """
    The fallback serves those who can't wait for the model.
    """
    fleet = fleet(
        loading(0.8),
        target={"deadline": "300ms", "fallback": [{"default_value": "later"}]},
        cold_start={"grace": "30s"},
    )

    result = fleet.ask()

    assert "later" == result.text
    assert 0 == result.attempts
    assert result.degraded
    assert result.endpoint is None


def test_a_load_that_takes_too_long(fleet):
    """
    When the grace is over the callers are told so, and the breaker is not.
    """
    fleet = fleet(loading(30), cold_start={"grace": "400ms"}, target={"circuit_breaker": {"failure_threshold": 1}})

    with pytest.raises(TimeoutError, match="was not loaded within its grace of 400ms") as raised:
        fleet.ask()

    assert ErrorCode.ERR_TIMEOUT_RESPONSE is raised.value.error_code
    assert [0] == fleet.chats()
    _wait_for(lambda: _news_of_loads(fleet))
    (event,) = _news_of_loads(fleet)
    assert ("model_load_failed", ErrorCode.ERR_TIMEOUT_DEADLINE) == (event.name, event.error_code)
    assert "closed" == fleet.model.policies.breaker(CHAT).state.value


def test_a_load_that_fails_leaves_the_word_to_the_call(fleet):
    """
    What a load fails of the call meets itself, and it is the call's error that counts.
    """
    failing = ErrorBody(message="model_load_failed", path=LOAD)
    fleet = fleet(
        {"loaded": (), "script": [failing], "then": Status(status=500, message="The model has crashed.")},
        cold_start={"grace": "30s"},
    )

    with pytest.raises(APIError, match="crashed"):
        fleet.ask()

    assert [1] == fleet.chats()
    assert 1 == fleet.model.policies.breaker(CHAT).failures
    (event,) = _news_of_loads(fleet)
    assert ("model_load_failed", MODEL) == (event.name, event.model)
    assert "model_load_failed" in event.error


def test_a_model_that_is_not_there_is_not_loaded(fleet):
    """
    A model that the server does not have can't be loaded: the call says so.
    """
    fleet = fleet({"models": ("another",), "check_model": True}, cold_start={"grace": "30s"})

    with pytest.raises(APIError) as raised:
        fleet.ask()

    assert ErrorCode.ERR_API_MODEL_NOT_FOUND is raised.value.error_code
    assert [0] == fleet.loads()


def test_a_server_that_tells_nothing_counts(fleet):
    """
    A server that does not even give its list fails the call by itself, which its breaker hears of.
    """
    fleet = fleet(
        {"script": [Status(status=500, path="/api/v1/models")], "then": Status(status=500)},
        cold_start={"grace": "30s"},
        target={"circuit_breaker": {"failure_threshold": 3}},
    )
    for _ in range(2):
        with pytest.raises(APIError):
            fleet.ask()

    assert 2 == fleet.model.policies.breaker(CHAT).failures
    assert 1 == fleet.count(fleet.servers[0], "/api/v1/models")


def test_a_server_without_a_list(fleet):
    """
    Where nobody tells what is loaded, the first call is made after a chat of one token, and so is one after `idle`.
    """
    clock = VirtualClock()
    fleet = fleet(
        {"own_api": False, "then": Answer(text="Red.")}, cold_start={"grace": "30s", "idle": "1h"}, clock=clock
    )
    for _ in range(2):
        assert "Red." == fleet.ask().text
    before = fleet.chats()
    clock.advance(3599.0)
    fleet.ask()
    clock.advance(3600.0)
    fleet.ask()

    assert [3] == before
    assert [6] == fleet.chats()


def test_the_list_is_asked_again_after_a_while(fleet):
    """
    A model may have been unloaded meanwhile: after some seconds without an answer the list says.
    """
    clock = VirtualClock()
    fleet = fleet({}, cold_start={"grace": "30s"}, clock=clock)
    fleet.ask()
    clock.advance(4.9)
    fleet.ask()
    clock.advance(4.9)
    fleet.ask()
    assert 1 == fleet.count(fleet.servers[0], "/api/v1/models")
    clock.advance(5.0)
    fleet.ask()

    assert 2 == fleet.count(fleet.servers[0], "/api/v1/models")


def test_with_several_servers(fleet):
    """
    A server whose model takes too long leaves the call to the next.
    """
    fleet = fleet(loading(30), {"then": Answer(text="Red.")}, cold_start={"grace": "300ms"})

    result = fleet.ask()

    assert "Red." == result.text
    assert 1 == result.attempts
    assert [0, 1] == fleet.chats()


def test_inside_of_a_cache(fleet_of):
    """
    Equal calls that a read-through cache makes one wait for the load as others do.
    """
    fleet = fleet_of("sync", loading(0.3), target={"cache": {"ttl": "1m"}}, cold_start={"grace": "30s"})

    results = fleet.ask_at_once(5)

    assert all(result.text for result in results)
    assert [1] == fleet.loads()
    assert [1] == fleet.chats()


def test_a_task_that_is_cancelled(fleet_of):
    """
    Cancelling a caller leaves no task behind, and does not end the load.
    """
    fleet = fleet_of("async", loading(0.5), cold_start={"grace": "30s"})

    async def leave():
        task = asyncio.create_task(fleet.model.generate_async(RED))
        await asyncio.to_thread(fleet.servers[0].wait_for_requests, 3)  # two lists, and the load
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert set() == asyncio.run(leave())
    _wait_for(lambda: _is_warm(fleet))
    assert fleet.ask().text
    assert [1] == fleet.loads()


def test_the_loop_is_not_blocked(fleet_of):
    """
    While callers wait for the model, other tasks of the loop go on.
    """
    fleet = fleet_of("async", loading(0.5), cold_start={"grace": "30s"})

    async def both():
        task = asyncio.create_task(fleet.model.generate_async(RED))
        turns = 0
        while not task.done():
            await asyncio.sleep(0.01)
            turns += 1
        await task
        return turns

    assert asyncio.run(both()) > 10


def test_closing_does_not_wait_for_a_load(fleet_of):
    """
    A model that is closed while it loads returns at once.
    """
    fleet = fleet_of(
        "sync", {"loaded": (), "script": [Hang(path=LOAD)]}, cold_start={"grace": "60s"}, target={"deadline": "200ms"}
    )
    with pytest.raises(TimeoutError):
        fleet.ask()

    started = time.monotonic()
    fleet.model.close()

    assert time.monotonic() - started < 1.0


def _news_of_loads(fleet):
    return [event for event in fleet.events if event.name in ("model_loaded", "model_load_failed")]


def _is_warm(fleet):
    return any(server.seen_loaded(MODEL) is not None for server in fleet.model._chat._servers)


def _wait_for(condition):
    """Until *condition* holds; some seconds at most."""
    for _ in range(500):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it has not come to that")
