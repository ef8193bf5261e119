"""Another model and another server serve, over real sockets, when the first one can't."""

from __future__ import annotations

from typing import Any

import pytest
from staging import CHAT, blue, red

from pixel_llm import HybridPixelLLM
from pixel_llm.events import CircuitStateChanged
from pixel_llm.testing import Answer, ScriptedLMStudio, Status

NO_RETRY = {"retry": None, "rate_limit": None, "bulkhead": None}


def asks(model_or_server: dict[str, Any], **layers: Any) -> dict[str, Any]:
    """A policy whose chat goes there in the end."""
    return {"targets": {CHAT: {**NO_RETRY, "fallback": [{**model_or_server, "reserve": "10s"}], **layers}}}


def models_asked(server: Any) -> list[str]:
    chats = [request for request in server.requests if request.path.endswith("/chat/completions")]
    return [request.body["model"] for request in chats]


class TestAnotherModel:
    def test_answers_the_same_request(self, stage):
        """
        The server is asked again, by the other model's name; all else of the request is the same.
        """
        scene = stage(Status(status=500), Answer(text="A red square."), overrides=asks({"model": "small"}))
        result = scene.ask()
        first, second = [request.body for request in scene.server.requests]

        assert ("A red square.", "model:small", True, "small") == (
            result.text,
            result.served_by,
            result.degraded,
            result.model,
        )
        assert {**first, "model": "small"} == second

    def test_has_a_breaker_of_its_own(self, stage):
        """
        The first model's breaker opens; the other one is asked at once from then on.
        """
        scene = stage(
            Status(status=500),
            then=Answer(text="A picture."),
            overrides=asks({"model": "small"}, circuit_breaker={"failure_threshold": 1}),
        )
        results = [scene.ask(red()), scene.ask(blue())]

        assert ["model:small", "model:small"] == [result.served_by for result in results]
        assert ["qwen2.5-vl-7b-instruct", "small", "small"] == models_asked(scene.server)
        assert [CHAT] == [event.target for event in scene.events if isinstance(event, CircuitStateChanged)]
        assert "open" == scene.breaker.state

    def test_that_fails_as_well(self, stage):
        """
        Then the fallback of the whole call serves.
        """
        scene = stage(then=Status(status=500), overrides=asks({"model": "small"}))
        result = scene.ask()

        assert ("default_value", True) == (result.served_by, result.degraded)
        assert 2 == scene.times_asked()


class TestAnotherEndpoint:
    @pytest.fixture
    def spare(self):
        with ScriptedLMStudio(then=Answer(text="A red square.")) as server:
            yield server

    def test_answers_the_same_request(self, stage, spare):
        """
        The other server gets what the first one got.
        """
        scene = stage(then=Status(status=503), overrides=asks({"endpoint": spare.base_url}))
        result = scene.ask()

        assert ("A red square.", f"endpoint:{spare.base_url}", True) == (
            result.text,
            result.served_by,
            result.degraded,
        )
        assert [r.body for r in scene.server.requests] == [r.body for r in spare.requests]

    def test_does_not_get_the_key_of_the_first_server(self, spare, tmp_path, monkeypatch):
        """
        A key is for the server that it was given for; another model on that server gets it.
        """
        monkeypatch.chdir(tmp_path)
        with ScriptedLMStudio(then=Status(status=503)) as server:
            steps = [{"model": "small"}, {"endpoint": spare.base_url}]
            policy = {
                "lm_studio": {"base_url": server.base_url, "api_key": "${FIRST_KEY}"},
                "targets": {CHAT: {**NO_RETRY, "fallback": steps}},
            }
            monkeypatch.setenv("FIRST_KEY", "sesame")
            with HybridPixelLLM("basic", error_config=policy) as model:
                model.generate(red())
            sent = [[name.lower() for name in request.headers] for request in (*server.requests, *spare.requests)]

        assert [True, True, False] == ["authorization" in names for names in sent]

    def test_the_first_server_is_not_there_at_all(self, stage, spare):
        """
        A refused connection sends the request on.
        """
        overrides = asks({"endpoint": spare.base_url})
        scene = stage(overrides=overrides)
        scene.server.close()

        assert "A red square." == scene.ask().text

    def test_both_worlds_and_threads_share_one_client(self, stage, spare):
        """
        A second call reuses what the first one opened.
        """
        scene = stage(then=Status(status=503), overrides=asks({"endpoint": spare.base_url}))
        scene.ask(red())
        scene.ask(blue())

        assert 1 == len(scene.model._chat._others)


class TestReadThrough:
    @pytest.mark.parametrize("target", [CHAT, "pixel_llm.generate"])
    def test_the_same_picture_is_asked_for_once(self, stage, target):
        """
        The result says that the cache had it: it is not degraded, and nobody was asked.
        """
        scene = stage(Answer(text="A red square."), overrides={"targets": {target: {"cache": {"ttl": "5m"}}}})
        results = [scene.ask(red()), scene.ask(red()), scene.ask(blue())]

        assert ["lm_studio", "cache_hit", "lm_studio"] == [result.served_by for result in results]
        assert [False, False, False] == [result.degraded for result in results]
        assert [1, 0, 1] == [result.attempts for result in results]
        assert ["A red square."] * 2 == [result.text for result in results[:2]]
        assert 2 == scene.times_asked()

    @pytest.mark.parametrize("target", [CHAT, "pixel_llm.generate"])
    def test_a_truncated_answer_is_not_kept(self, stage, target):
        """
        The next call asks again.
        """
        scene = stage(
            Answer(text="A red", finish_reason="length"),
            Answer(text="A red square."),
            overrides={"targets": {target: {"cache": {"ttl": "5m"}}}},
        )

        assert ["A red", "A red square.", "A red square."] == [scene.ask().text for _ in range(3)]
