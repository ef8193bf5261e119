from __future__ import annotations

import json

import pytest
from under_policy import policies_of

from pixel_llm.events import ModelMismatched
from pixel_llm.lm_studio import ChatRequest, LMStudioClient
from pixel_llm.lm_studio.model_watch import ModelWatch
from pixel_llm.testing import Answer, ScriptedLMStudio

REQUEST = ChatRequest(model="asked", prompt="What is it?")
NEWS = ModelMismatched("lm_studio.chat", "asked", "other")


@pytest.mark.parametrize("streams", [False, True], ids=["plain", "stream"])
class TestClient:
    def ask(self, world, client, streams):
        if streams:
            world.stream(client, REQUEST, [])
        else:
            world.call(client, "chat", REQUEST)

    def test_another_model_is_told_once(self, streams, world):
        """
        LM Studio answers with what is loaded: the program hears of it, and not with every call.
        """
        told = []
        with ScriptedLMStudio(then=Answer(model="other")) as server:
            client = LMStudioClient(server.base_url, listeners=[told.append])
            for _ in range(3):
                self.ask(world, client, streams)

        assert [NEWS] == told

    @pytest.mark.parametrize("name", ["asked", "publisher/asked", "ASKED:2"])
    def test_the_same_model_is_not(self, streams, name, world):
        """
        A publisher, and the number of a copy, make no other model.
        """
        told = []
        with ScriptedLMStudio(then=Answer(model=name)) as server:
            self.ask(world, LMStudioClient(server.base_url, listeners=[told.append]), streams)

        assert [] == told


def test_the_policys_log_gets_it():
    """
    Where the policies are told, their listeners and their log are.
    """
    told = []
    policies = policies_of(listeners=[told.append])
    with ScriptedLMStudio(then=Answer(model="other")) as server:
        LMStudioClient(server.base_url, listeners=[policies.tell]).chat(REQUEST)

    assert [NEWS] == told


def test_memory_is_bounded():
    """
    A server that makes up names fills nothing.
    """
    told = []
    watch = ModelWatch([told.append])
    for number in range(1000):
        watch.compare("asked", json.dumps(number))

    assert 100 == len(told)
