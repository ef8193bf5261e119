"""Several servers as one: their order, looks at their health, and models that must be loaded first."""

from __future__ import annotations

import asyncio
import gc
import os
import threading

import pytest

from pixel_llm.errors import TimeoutError
from pixel_llm.lm_studio import ChatRequest, ModelState
from pixel_llm.lm_studio.servers import Servers
from pixel_llm.lm_studio.servers.load import Load
from pixel_llm.policy import Balance, ColdStartConfig, EndpointConfig, HealthConfig, LMStudioConfig, Secret
from pixel_llm.resilience import SYSTEM_CLOCK, Limits, current_limits
from pixel_llm.resilience.limits import publish, take_back
from pixel_llm.testing import Hang, ModelLoad, Refuse, ScriptedLMStudio, Status, VirtualClock

MODEL = "qwen2.5-vl-7b-instruct"
REQUEST = (ChatRequest(model=MODEL, prompt="What is this?"),)
NAMES = [f"http://127.0.0.1:{port}/v1" for port in (1, 2, 3)]
LOAD = "/api/v1/models/load"


def make(*names, clock=SYSTEM_CLOCK, **more):
    endpoints = tuple(EndpointConfig(base_url=name) for name in names or NAMES)
    more.setdefault("health", HealthConfig(interval=3600.0, timeout=5.0))
    servers = Servers(LMStudioConfig(endpoints=endpoints, **more), clock)
    by_name = {server.name: server for server in servers}
    return servers, by_name


def order(servers, times=1):
    """Who comes first, so many times."""
    return [servers._in_order(MODEL)[0].name for _ in range(times)]


def state(name=MODEL, *, loaded):
    return ModelState(id=name, kind="vlm", loaded=loaded)


class TestOrder:
    def test_in_turn(self):
        """
        Each is first in turn, and the others follow in a circle.
        """
        servers, _ = make()

        assert NAMES * 2 == order(servers, 6)
        assert [server.name for server in servers._in_order(MODEL)] == NAMES
        assert [server.name for server in servers._in_order(MODEL)] == [*NAMES[1:], NAMES[0]]

    def test_the_least_busy(self):
        """
        Who has the fewest calls under way is first; who has as many as others takes turns with them.
        """
        servers, by_name = make(balance=Balance.LEAST_BUSY)
        servers.enter(NAMES[0])
        servers.enter(NAMES[0])
        servers.enter(NAMES[1])

        assert [NAMES[2]] * 3 == order(servers, 3)
        assert 2 == by_name[NAMES[0]].busy
        servers.leave(NAMES[1])
        assert {NAMES[1], NAMES[2]} == set(order(servers, 6))

    def test_in_turn_whoever_is_busy(self):
        """
        With `round_robin` nobody counts who is busy.
        """
        servers, _ = make()
        for _ in range(5):
            servers.enter(NAMES[0])

        assert NAMES == order(servers, 3)

    def test_who_has_the_model(self):
        """
        Who would have to load the model comes after those that have it, and after those that don't tell.
        """
        servers, by_name = make(balance=Balance.LEAST_BUSY)
        by_name[NAMES[0]].learn((state(loaded=False),))
        by_name[NAMES[1]].learn((state(loaded=True),))
        by_name[NAMES[2]].learn(None)
        servers.enter(NAMES[1])
        servers.enter(NAMES[2])

        assert {NAMES[1], NAMES[2]} == set(order(servers, 6))
        assert NAMES[0] == servers._in_order(MODEL)[-1].name

    def test_without_a_model_nobody_lacks_it(self):
        """
        A call that is for no model, such as that for the list, minds only who is well.
        """
        servers, by_name = make()
        by_name[NAMES[0]].learn((state(loaded=False),))

        assert NAMES[0] == servers._in_order(None)[0].name

    def test_who_is_well(self):
        """
        Who is not well comes last, whatever it has loaded.
        """
        servers, by_name = make()
        by_name[NAMES[0]].is_well = False
        by_name[NAMES[1]].learn((state(loaded=False),))
        by_name[NAMES[2]].learn((state(loaded=False),))

        assert NAMES[0] not in order(servers, 6)
        assert NAMES[0] == servers._in_order(MODEL)[-1].name

    def test_an_answer_is_newer_than_the_list(self):
        """
        A model that has answered is loaded, until a later list says otherwise.
        """
        clock = VirtualClock()
        servers, by_name = make(clock=clock)
        server = by_name[NAMES[0]]
        assert server.seen_loaded(MODEL) is None
        server.learn((state(loaded=False),))
        assert server.has_loaded(MODEL) is False
        assert server.seen_loaded(MODEL) is None
        clock.advance(1.0)
        servers.answered(NAMES[0], REQUEST)
        assert server.has_loaded(MODEL) is True
        assert clock.monotonic() == server.seen_loaded(MODEL)
        clock.advance(1.0)
        server.learn((state(loaded=True),))
        assert clock.monotonic() == server.seen_loaded(MODEL)
        clock.advance(1.0)
        server.learn((state(loaded=False),))
        assert server.has_loaded(MODEL) is False
        server.learn(None)
        assert server.has_loaded(MODEL) is None
        assert clock.monotonic() - 2.0 == server.seen_loaded(MODEL)

    def test_a_list_that_is_asked_for_says_nothing_of_a_model(self):
        """
        An answer to a call without a model proves that none is loaded.
        """
        servers, by_name = make()
        servers.answered(NAMES[0], ())

        assert by_name[NAMES[0]].seen_loaded(MODEL) is None


class TestServers:
    def test_keys_are_each_servers_own(self):
        """
        A server is given its own key, and no other one's; the identity tells keys apart without telling them.
        """
        with ScriptedLMStudio(api_key="first") as first, ScriptedLMStudio() as second:
            endpoints = (
                EndpointConfig(base_url=first.base_url, api_key=Secret("first")),
                EndpointConfig(base_url=second.base_url),
            )
            servers = Servers(LMStudioConfig(endpoints=endpoints))
            for server in servers:
                server.client.models()
            servers.close()

            assert "Bearer first" == first.requests[0].headers["authorization"]
            assert "authorization" not in second.requests[0].headers
            assert f"{first.base_url} {second.base_url}" == servers.identity[0]
            assert "first" not in servers.identity[1]
            assert servers.identity[1].strip()

    def test_the_first_and_the_best(self):
        """
        The first is the policy's first, the best is who would be asked.
        """
        servers, by_name = make()
        by_name[NAMES[0]].is_well = False

        assert NAMES[0] == servers.first.base_url
        assert servers.best(MODEL).base_url in NAMES[1:]

    def test_one_server_is_not_looked_after(self):
        """
        With one server there is no order that a look could change.
        """
        servers, _ = make(NAMES[0])
        servers.order(REQUEST)

        assert not _looking()


def _looking():
    return [thread for thread in threading.enumerate() if thread.name == "pixel-llm health"]


@pytest.fixture
def pair():
    with ScriptedLMStudio(loaded=()) as cold, ScriptedLMStudio() as warm:
        yield cold, warm


class TestProbes:
    def test_a_look(self, pair):
        """
        A look finds who is well, and what is loaded where.
        """
        servers, by_name = make(*(server.base_url for server in pair))
        servers._probes.look()

        assert [False, True] == [by_name[server.base_url].has_loaded(MODEL) for server in pair]
        pair[1].refuse()
        servers._probes.look()
        assert [True, False] == [server.is_well for server in servers]
        pair[1].accept()
        servers._probes.look()
        assert [True, True] == [server.is_well for server in servers]

    def test_a_server_that_hangs_costs_its_timeout(self):
        """
        A server that says nothing is left alone after its timeout, and is not well.
        """
        with ScriptedLMStudio([Hang(path="/v1/models")]) as hanging, ScriptedLMStudio() as well:
            health = HealthConfig(interval=3600.0, timeout=0.2)
            servers, by_name = make(hanging.base_url, well.base_url, health=health)
            servers._probes.look()

            assert [False, True] == [by_name[server.base_url].is_well for server in (hanging, well)]

    def test_a_look_binds_nobody(self, pair):
        """
        The limits of a look end with it.
        """
        servers, _ = make(*(server.base_url for server in pair))
        servers._probes.look()

        assert current_limits().ends is None

    def test_one_thread_whoever_begins(self, pair):
        """
        There is one thread, from the first call on until it is closed; a later call begins anew.
        """
        servers, _ = make(*(server.base_url for server in pair))
        for _ in range(3):
            servers.order(REQUEST)
        (first,) = _looking()
        servers.close()
        first.join(5)
        servers.close()
        servers.order(REQUEST)
        (second,) = _looking()
        servers.close()
        second.join(5)

        assert not first.is_alive()
        assert not second.is_alive()

    def test_ends_with_its_owner(self, pair):
        """
        Whoever forgets to close it leaves no thread behind.
        """
        servers, _ = make(*(server.base_url for server in pair))
        servers.order(REQUEST)
        (thread,) = _looking()
        assert pair[1].wait_for_requests(2)
        del servers, _
        gc.collect()
        thread.join(5)

        assert not thread.is_alive()

    def test_again_after_the_interval(self, pair):
        """
        One look follows the other.
        """
        servers, _ = make(*(server.base_url for server in pair), health=HealthConfig(interval=0.01, timeout=1.0))
        servers.order(REQUEST)
        try:
            assert pair[1].wait_for_requests(6)
        finally:
            servers.close()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
    def test_a_forked_child_looks_by_itself(self, pair):
        """
        A child has none of its parent's threads, and begins one of its own.
        """
        servers, _ = make(*(server.base_url for server in pair))
        servers.order(REQUEST)
        before = servers._probes._stop
        child = os.fork()
        if child == 0:
            servers.order(REQUEST)
            os._exit(0 if servers._probes._stop is not before and len(_looking()) == 1 else 1)
        _, status = os.waitpid(child, 0)
        servers.close()

        assert 0 == status


class TestColdStart:
    def test_two_models_are_two_loads(self):
        """
        A load is for one model at one server.
        """
        models = ("one", "two")
        with ScriptedLMStudio(models=models, loaded=()) as server:
            servers, _ = make(server.base_url, cold_start=ColdStartConfig(grace=5.0))
            for model in (*models, *models):
                servers.prepare(server.base_url, (ChatRequest(model=model, prompt="?"),))

            assert list(models) == [request.body["model"] for request in server.requests if request.path == LOAD]

    def test_without_a_model_nothing_is_loaded(self):
        """
        A call for no model waits for none.
        """
        with ScriptedLMStudio(loaded=()) as server:
            servers, _ = make(server.base_url, cold_start=ColdStartConfig(grace=5.0))
            servers.prepare(server.base_url, ())
            asyncio.run(servers.prepare_async(server.base_url, ()))

            assert () == server.requests

    def test_without_a_cold_start_nothing_is_loaded(self):
        """
        Without the section nobody waits.
        """
        with ScriptedLMStudio(loaded=()) as server:
            servers, _ = make(server.base_url)
            servers.prepare(server.base_url, REQUEST)
            asyncio.run(servers.prepare_async(server.base_url, REQUEST))

            assert () == server.requests

    def test_threads_and_loops_wait_for_the_same(self):
        """
        Callers in threads and in the tasks of two event loops share one load.
        """
        with ScriptedLMStudio([ModelLoad(seconds=0.4, path=LOAD)], loaded=()) as server:
            servers, _ = make(server.base_url, cold_start=ColdStartConfig(grace=5.0))

            async def several():
                await asyncio.gather(*(servers.prepare_async(server.base_url, REQUEST) for _ in range(5)))

            threads = [threading.Thread(target=lambda: asyncio.run(several())) for _ in range(2)]
            threads += [threading.Thread(target=servers.prepare, args=(server.base_url, REQUEST)) for _ in range(5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(5)

            assert 1 == [request.path for request in server.requests].count(LOAD)

    def test_an_event_loop_that_is_gone_is_no_trouble(self):
        """
        A loop that was closed while a task of it waited keeps nobody else from hearing that the load has ended.
        """
        load, loop = Load(SYSTEM_CLOCK.monotonic() + 60.0), asyncio.new_event_loop()
        waiting = load.wait_async(load.ends, SYSTEM_CLOCK)
        task = loop.create_task(waiting)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        done = threading.Event()
        waiter = threading.Thread(target=lambda: (load.wait(load.ends, SYSTEM_CLOCK), done.set()))
        waiter.start()
        load.end()
        waiter.join(5)

        assert done.is_set()
        task._log_destroy_pending = False
        waiting.close()

    def test_the_limits_of_the_caller(self):
        """
        Whose time is up leaves; the load goes on.
        """
        with ScriptedLMStudio([ModelLoad(seconds=0.5, path=LOAD)], loaded=()) as server:
            servers, by_name = make(server.base_url, cold_start=ColdStartConfig(grace=5.0))
            token = publish(Limits(SYSTEM_CLOCK, deadline=SYSTEM_CLOCK.monotonic() + 0.1))
            try:
                with pytest.raises(TimeoutError, match=r"before .* was loaded, which goes on"):
                    servers.prepare(server.base_url, REQUEST)
            finally:
                take_back(token)
            servers.prepare(server.base_url, REQUEST)

            assert by_name[server.base_url].has_loaded(MODEL)
            assert 1 == [request.path for request in server.requests].count(LOAD)

    def test_a_server_that_is_down_is_not_waited_for(self):
        """
        A server that refuses connections has nothing to load: the call meets that, and for some seconds nobody asks.
        """
        clock = VirtualClock()
        with ScriptedLMStudio([Refuse(seconds=60)]) as server:
            servers, _ = make(server.base_url, cold_start=ColdStartConfig(grace=5.0), clock=clock)
            servers.prepare(server.base_url, REQUEST)
            server.accept()
            servers.prepare(server.base_url, REQUEST)
            assert () == server.requests
            clock.advance(5.0)
            servers.prepare(server.base_url, REQUEST)

            assert ["/api/v1/models"] == [request.path for request in server.requests]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
    def test_a_forked_child_waits_for_no_load_of_its_parent(self):
        """
        A load of the parent never ends in a child, which begins its own.
        """
        with ScriptedLMStudio([ModelLoad(seconds=0.5, path=LOAD)], loaded=()) as server:
            servers, by_name = make(server.base_url, cold_start=ColdStartConfig(grace=20.0))
            parent = threading.Thread(target=servers.prepare, args=(server.base_url, REQUEST))
            parent.start()
            assert server.wait_for_requests(3)
            child = os.fork()
            if child == 0:
                servers.prepare(server.base_url, REQUEST)
                os._exit(0 if by_name[server.base_url].has_loaded(MODEL) else 1)
            _, status = os.waitpid(child, 0)
            parent.join(5)

            assert 0 == status

    def test_a_list_that_fails_is_no_list(self):
        """
        A server that answers its list with an error has not said that it has none.
        """
        with ScriptedLMStudio([Status(status=500, path="/api/v1/models")]) as server:
            servers, by_name = make(server.base_url, cold_start=ColdStartConfig(grace=5.0))
            servers.prepare(server.base_url, REQUEST)

            assert by_name[server.base_url].tells_states is None
