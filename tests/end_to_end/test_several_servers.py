"""Several LM Studio servers behind one policy, on real sockets."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack

import pytest
from fleet import CHAT, MODEL, RED, WAYS, make_fleet

from pixel_llm.errors import APIError, CircuitBreakerOpen, ConnectionError, ErrorCode, LimitExceeded, PolicyError
from pixel_llm.testing import Answer, BrokenStream, Hang, ModelLoad, Refuse, Status


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


BUSY = Status(status=503, message="Loading model")


class TestFailover:
    @pytest.mark.parametrize("trouble", [BUSY, Status(status=404, message='Model "x" not found')])
    def test_the_next_server_answers(self, fleet, trouble):
        """
        What one server can't answer the next one is asked at once, and the result says who answered.
        """
        fleet = fleet({"script": [trouble]}, {"then": Answer(text="A red picture.")})

        result = fleet.ask()

        assert "A red picture." == result.text
        assert fleet.addresses[1] == result.endpoint
        assert 2 == result.attempts
        assert not result.degraded
        assert 1 == fleet.chats()[1]

    def test_a_server_that_is_down(self, fleet):
        """
        A server that refuses connections costs nothing, whether a look has found that out before or the call does.
        """
        fleet = fleet({"script": [Refuse(seconds=60)]}, {"then": Answer(text="Red.")})

        assert ["Red.", "Red."] == [fleet.ask().text, fleet.ask().text]
        assert [0, 2] == fleet.chats()

    def test_a_server_that_hangs_is_left_at_its_timeout(self, fleet):
        """
        A timeout is one server's; the next one has its own, within the deadline of the call.
        """
        fleet = fleet({"then": Hang()}, {"then": Answer(text="Red.")}, target={"timeout": "300ms", "deadline": "10s"})

        assert "Red." == fleet.ask().text
        assert [1, 1] == fleet.chats()

    def test_a_wrong_key_for_one_shows(self, fleet):
        """
        While another server makes up for one that refuses the key, the metrics tell of it, until it answers.
        """
        fleet = fleet({"script": [Status(status=401, message="Invalid key")]}, {})

        fleet.ask()

        (address, error), *others = fleet.model.get_error_metrics()["endpoint_errors"].items()
        assert (fleet.addresses[0], []) == (address, others)
        assert error.startswith("ERR_API_UNAUTHORIZED: ")

        while fleet.chats()[0] < 2:
            fleet.ask()

        assert {} == fleet.model.get_error_metrics()["endpoint_errors"]

    def test_what_was_closed_says_nothing_of_its_server(self, fleet_of):
        """
        A stream that another thread closes fails of that, not of the server.
        """
        fleet = fleet_of("stream", {"then": Hang()}, {"then": Hang()})
        stream = fleet.model.stream(RED)
        reading = threading.Thread(target=lambda: list(stream), daemon=True)
        reading.start()
        while not sum(fleet.chats()):
            time.sleep(0.01)
        stream.close()
        reading.join(20)

        assert {} == fleet.model.get_error_metrics()["endpoint_errors"]
        assert 1 == sum(fleet.chats())

    def test_a_wrong_request_goes_nowhere_else(self, fleet):
        """
        A request that one server rejects is not sent to another.
        """
        fleet = fleet({"then": Status(status=400, message="wrong")}, {})

        with pytest.raises(APIError) as raised:
            fleet.ask()

        assert ErrorCode.ERR_API_BAD_REQUEST is raised.value.error_code
        assert [1, 0] == fleet.chats()

    def test_all_of_three_fail(self, fleet):
        """
        The error tells what failed where, and how often a server was asked.
        """
        fleet = fleet({"then": BUSY}, {"then": BUSY}, {"script": [Refuse(seconds=60)]})

        with pytest.raises((APIError, ConnectionError)) as raised:
            fleet.ask()

        assert set(fleet.addresses) == set(raised.value.details["endpoints"])
        assert "ERR_CONN_REFUSED" in raised.value.details["endpoints"][fleet.addresses[2]]
        assert 3 == raised.value.attempts

    @pytest.mark.parametrize("way", ["stream", "async stream"])
    def test_no_failover_after_the_first_content(self, fleet_of, way):
        """
        A caption that breaks in the middle is not continued with another one.
        """
        fleet = fleet_of(way, {"then": BrokenStream(how="truncated", chunks=2)}, {})

        with pytest.raises(ConnectionError) as raised:
            fleet.ask()

        assert [1, 0] == fleet.chats()
        assert raised.value.arrived.chunks > 0

    @pytest.mark.parametrize("way", ["stream", "async stream"])
    def test_failover_before_the_first_content(self, fleet_of, way):
        """
        A stream that breaks before its first word comes from another server.
        """
        fleet = fleet_of(way, {"then": BrokenStream(how="error_event", chunks=0)}, {"then": Answer(text="Red.")})

        assert "Red." == fleet.ask().text
        assert [1, 1] == fleet.chats()


class TestBreakers:
    def test_each_server_has_its_own(self, fleet):
        """
        A server that keeps failing is left out, while the others go on.
        """
        fleet = fleet({"then": BUSY}, {"then": Answer(text="Red.")})
        for _ in range(6):
            assert "Red." == fleet.ask().text

        assert [2, 6] == fleet.chats()
        assert "open" == fleet.breaker(0).state.value
        assert "closed" == fleet.breaker(1).state.value
        assert {fleet.addresses[0]: "open", fleet.addresses[1]: "closed"} == (
            fleet.model.get_error_metrics()["circuit_breaker_state"]
        )
        assert {CHAT, f"{CHAT}[endpoint={fleet.addresses[0]}]"} <= {event.target for event in fleet.events} | {CHAT}

    def test_all_open(self, fleet):
        """
        When every breaker is open nobody is asked.
        """
        fleet = fleet({"then": BUSY}, {"then": BUSY})
        for _ in range(2):
            with pytest.raises(APIError):
                fleet.ask()
        before = fleet.chats()

        with pytest.raises(CircuitBreakerOpen) as raised:
            fleet.ask()

        assert before == fleet.chats()
        assert raised.value.retry_after > 0

    def test_one_must_be_named(self, fleet_of):
        """
        Which server's breaker is meant must be said.
        """
        fleet = fleet_of("sync", {}, {})

        with pytest.raises(PolicyError, match="for each endpoint: name one with key="):
            fleet.model.policies.breaker(CHAT)
        with pytest.raises(PolicyError, match=fleet.addresses[1]):
            fleet.model.policies.breaker(CHAT, key="http://elsewhere/v1")


class TestOrder:
    def test_they_take_turns(self, fleet):
        """
        Servers that are equally well are asked in turn.
        """
        fleet = fleet({}, {}, {})
        for _ in range(6):
            fleet.ask()

        assert [2, 2, 2] == fleet.chats()

    def test_the_least_busy_is_asked_first(self, fleet):
        """
        With `least_busy` nobody waits behind a call that takes long.
        """
        fleet = fleet({"script": [ModelLoad(seconds=3.0, text="slow")]}, {}, balance="least_busy")
        slow = threading.Thread(target=fleet.ask)
        slow.start()
        assert fleet.servers[0].wait_for_requests(1) or fleet.servers[0].requests
        while not fleet.chats()[0]:
            fleet.servers[0].wait_for_requests(len(fleet.servers[0].requests) + 1)
        for _ in range(4):
            fleet.ask()
        slow.join()

        assert [1, 4] == fleet.chats()

    def test_where_the_model_is_loaded(self, fleet):
        """
        A server that has the model loaded is asked before one that would have to load it.
        """
        fleet = fleet({"loaded": ()}, {}, health={"interval": "50ms"})
        fleet.model.models()  # the first call of any kind begins the looks
        for server in fleet.servers:
            # A look is two requests, and the list of models may have been one: then the first look is over.
            assert server.wait_for_requests(4)
        for _ in range(4):
            fleet.ask()

        assert [0, 4] == fleet.chats()

    def test_a_server_that_is_not_well_comes_last(self, fleet):
        """
        A server that does not say how it is is only asked when no other one answers.
        """
        sick = {"script": [Status(status=500, path="/v1/models")] * 50, "then": Answer(text="sick")}
        fleet = fleet(sick, {"then": Answer(text="well")}, health={"interval": "50ms"})
        fleet.model.models()
        for server in fleet.servers:
            assert server.wait_for_requests(4)

        assert {"well"} == {fleet.ask().text for _ in range(4)}
        fleet.servers[1].refuse()
        assert "sick" == fleet.ask().text

    def test_looks_end_with_the_model(self, fleet_of):
        """
        A model that is closed looks after nobody.
        """
        fleet = fleet_of("sync", {}, {}, health={"interval": "50ms"})
        fleet.ask()
        looking = [thread for thread in threading.enumerate() if thread.name == "pixel-llm health"]
        fleet.model.close()
        for thread in looking:
            thread.join(5)

        assert looking
        assert not any(thread.is_alive() for thread in looking)


class TestWithTheRest:
    @pytest.mark.parametrize("way", ["sync", "async"])
    def test_a_hedge_asks_another_server(self, fleet_of, way):
        """
        A second attempt beside one that takes long goes to another server.
        """
        fleet = fleet_of(
            way,
            {"script": [ModelLoad(seconds=5.0, text="slow")], "then": Answer(text="quick")},
            {"then": Answer(text="quick")},
            target={"hedge": "200ms", "bulkhead": {"max_concurrent": 4}, "deadline": "10s"},
        )

        assert "quick" == fleet.ask().text
        assert [1, 1] == fleet.chats()

    def test_tokens_and_slots_are_each_servers_own(self, fleet_of):
        """
        A rate limit holds for each server: two of them take twice as much.
        """
        fleet = fleet_of("sync", {}, {}, target={"rate_limit": {"max_calls": 2, "period": "1h"}})
        for _ in range(4):
            fleet.ask()
        with pytest.raises(LimitExceeded):
            fleet.ask()

        assert [2, 2] == fleet.chats()

    def test_describe(self, fleet_of):
        """
        The layers of the whole call stand above the servers, those of each server below.
        """
        fleet = fleet_of("sync", {}, {}, target={"deadline": "10s", "timeout": "3s"})

        layers = fleet.model.policies.describe(CHAT)

        assert ["deadline", "endpoints", "circuit_breaker", "timeout", "call"] == [layer.name for layer in layers]
        assert {"endpoints": fleet.addresses} == layers[1].settings

    def test_reload_keeps_the_breakers(self, fleet_of):
        """
        Reloading the policy leaves an open breaker open.
        """
        fleet = fleet_of("sync", {"then": BUSY}, {"then": Answer(text="Red.")})
        fleet.ask()
        fleet.ask()
        fleet.ask()
        fleet.model.policies.reload()
        fleet.ask()

        assert "open" == fleet.breaker(0).state.value
        assert 2 == fleet.chats()[0]

    def test_the_list_of_models_fails_over(self, fleet_of):
        """
        `lm_studio.models` asks another server, too.
        """
        fleet = fleet_of("sync", {"script": [Refuse(seconds=60)]}, {})

        assert MODEL in fleet.model.models()
        assert MODEL in asyncio.run(fleet.model.models_async())

    def test_a_fallback_to_another_model_asks_a_server_that_is_well(self, fleet_of):
        """
        Another model is asked where the first one would be.
        """
        fleet = fleet_of(
            "sync",
            {"script": [BUSY], "then": Answer(text="small says"), "models": (MODEL, "small")},
            {"script": [BUSY], "then": Answer(text="small says"), "models": (MODEL, "small")},
            target={"deadline": "10s", "fallback": [{"model": "small", "reserve": "5s"}]},
        )

        result = fleet.ask()

        assert "small says" == result.text
        assert "model:small" == result.served_by
        assert result.endpoint is None
        assert 3 == sum(fleet.chats())

    def test_a_batch(self, fleet_of):
        """
        A batch is spread over all servers.
        """
        fleet = fleet_of("sync", {}, {}, balance="least_busy")

        items = fleet.model.generate_batch([RED] * 8, jobs=4)

        assert all(item.result is not None for item in items)
        assert 8 == sum(fleet.chats())
        assert min(fleet.chats()) > 0
