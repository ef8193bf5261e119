"""What the scripted LM Studio streams, loads and embeds, seen through a bare HTTP client."""

from __future__ import annotations

import json

import httpx
import pytest

from pixel_llm.testing import (
    Answer,
    BrokenStream,
    Drip,
    EmptyChoices,
    ModelLoad,
    Reset,
    ScriptedLMStudio,
    Status,
    Truncated,
)

ASKED = {"model": "m", "messages": [{"role": "user", "content": "What is it?"}], "stream": True}


def send(server, **changes):
    """The whole answer, and the exception that it ended in, if any."""
    body = b""
    with httpx.Client(trust_env=False) as client:
        try:
            with client.stream("POST", f"{server.base_url}/chat/completions", json=ASKED | changes) as response:
                for part in response.iter_raw():
                    body += part
        except httpx.TransportError as error:
            return response, body.decode(), error
    return response, body.decode(), None


def events(body):
    return [line.removeprefix("data: ") for line in body.split("\n\n") if line]


def words(body):
    chunks = [json.loads(event) for event in events(body) if event != "[DONE]"]
    return [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]]


class TestStreams:
    @pytest.mark.parametrize(
        "step",
        [
            Answer(text="A small cat."),
            ModelLoad(text="A small cat.", seconds=0.01),
            Drip(text="A small cat.", interval=0.0),
            Drip(text="A small cat.", part="headers", interval=0.0),
            Drip(text="A small cat.", part="chunks", interval=0.001),
        ],
        ids=str,
    )
    def test_healthy_answers(self, step):
        """
        A word an event, the reason why it ended, then ``[DONE]``.
        """
        with ScriptedLMStudio([step]) as server:
            response, body, error = send(server)

        assert (200, "text/event-stream", None) == (response.status_code, response.headers["content-type"], error)
        assert ["A", " small", " cat.", None] == words(body)
        assert "[DONE]" == events(body)[-1]
        assert "stop" == json.loads(events(body)[-2])["choices"][0]["finish_reason"]

    def test_usage_comes_when_asked_for(self):
        """
        In an event of its own, without choices.
        """
        with ScriptedLMStudio([Answer(text="A cat.")] * 2) as server:
            _, without, _ = send(server)
            _, body, _ = send(server, stream_options={"include_usage": True})

        usage = json.loads(events(body)[-2])
        assert ([], 2) == (usage["choices"], usage["usage"]["completion_tokens"])
        assert "usage" not in without

    def test_reasoning_comes_first(self):
        """
        In deltas of its own.
        """
        with ScriptedLMStudio([Answer(text="A cat.", reasoning_content="Hm, well.")]) as server:
            _, body, _ = send(server)

        deltas = [json.loads(event)["choices"][0]["delta"] for event in events(body)[:-1]]
        assert ["Hm,", " well.", None] == [delta.get("reasoning_content") for delta in deltas][:3]
        assert [None, None, "A"] == [delta.get("content") for delta in deltas][:3]

    def test_white_space_is_kept(self):
        """
        The pieces joined are the text.
        """
        text = "  A  cat.\n\nAnd a dog. \n"
        with ScriptedLMStudio([Answer(text=text)]) as server:
            _, body, _ = send(server)

        assert text == "".join(word or "" for word in words(body))

    def test_empty_choices(self):
        """
        Events that say nothing, and a proper end.
        """
        with ScriptedLMStudio([EmptyChoices()]) as server:
            _, body, _ = send(server)

        assert ([], "[DONE]") == (json.loads(events(body)[0])["choices"], events(body)[-1])

    @pytest.mark.parametrize(
        ("step", "sound"), [(Truncated(), False), (Truncated(part="json"), True), (Reset(when="body"), False)]
    )
    def test_cut_streams(self, step, sound):
        """
        Half of it comes; only cut events leave HTTP sound.
        """
        with ScriptedLMStudio([step]) as server:
            _, body, error = send(server)

        assert (True, True) == (body.startswith("data: "), "[DONE]" not in body)
        assert sound == (error is None)


class TestBrokenStream:
    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize(
        ("how", "ending"),
        [
            (
                "error_event",
                'event: error\ndata: {"error":"Oops."}\n\n',
            ),
            ("error", 'data: {"error":"Oops."}\n\n'),
            ("end", ""),
            ("text", "proxy error: Failed to read connection"),
        ],
    )
    def test_in_sound_http(self, how, ending, stream):
        """
        So many words, then what breaks it; whether or not a stream was asked for.
        """
        step = BrokenStream(how=how, chunks=3, text="A small cat.", message="Oops.", envelope="string")
        with ScriptedLMStudio([step]) as server:
            _, body, error = send(server, stream=stream)

        assert (None, True) == (error, body.endswith(ending))
        assert ["A", " small", " cat."] == words(body.removesuffix(ending))

    @pytest.mark.parametrize("how", ["truncated", "reset"])
    def test_in_broken_http(self, how):
        """
        The connection ends before HTTP does.
        """
        with ScriptedLMStudio([BrokenStream(how=how, chunks=1)]) as server:
            _, body, error = send(server)

        assert (["A"], True) == (words(body), error is not None)

    def test_that_hangs(self):
        """
        Nothing more comes; closing the server ends it.
        """
        with (
            ScriptedLMStudio([BrokenStream(how="hang", chunks=1)]) as server,
            httpx.Client(trust_env=False, timeout=0.2) as client,
            client.stream("POST", f"{server.base_url}/chat/completions", json=ASKED) as response,
        ):
            parts = response.iter_raw()
            first = next(parts)
            with pytest.raises(httpx.ReadTimeout):
                next(parts)

        assert ["A"] == words(first.decode())


class TestModels:
    def lists(self, server):
        root = server.base_url.removesuffix("/v1")
        newer = httpx.get(f"{root}/api/v1/models", trust_env=False).json()["models"]
        older = httpx.get(f"{root}/api/v0/models", trust_env=False).json()["data"]
        return [bool(entry["loaded_instances"]) for entry in newer], [entry["state"] for entry in older]

    def test_all_are_loaded_unless_told(self):
        """
        LM Studio's two lists say the same.
        """
        with ScriptedLMStudio(models=["a", "b"]) as server:
            assert ([True, True], ["loaded", "loaded"]) == self.lists(server)

    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v1/models/load"])
    def test_who_is_asked_for_is_loaded(self, path):
        """
        By a request to load it, or just in time by a chat.
        """
        with ScriptedLMStudio(models=["a", "b"], loaded=[]) as server:
            before = self.lists(server)
            httpx.post(server.base_url.removesuffix("/v1") + path, json={"model": "b", "messages": []}, trust_env=False)
            after = self.lists(server)

        assert ([False, False], ["not-loaded", "not-loaded"]) == before
        assert ([False, True], ["not-loaded", "loaded"]) == after

    def test_a_failure_loads_nothing(self):
        """
        Neither does a model that the server does not have.
        """
        load = "/api/v1/models/load"
        with ScriptedLMStudio([Status(status=500, path=load)], models=["a"], loaded=[]) as server:
            for model in ("a", "c"):
                httpx.post(server.base_url.removesuffix("/v1") + load, json={"model": model}, trust_env=False)

            assert ([False], ["not-loaded"]) == self.lists(server)

    def test_embeddings(self):
        """
        A vector for each text; a lone text is one.
        """
        with ScriptedLMStudio() as server:
            answers = [
                httpx.post(f"{server.base_url}/embeddings", json={"model": "m", "input": texts}, trust_env=False).json()
                for texts in (["a", "b"], "a")
            ]

        several, lone = ([entry["embedding"] for entry in answer["data"]] for answer in answers)
        assert (2, lone[0]) == (len(several), several[0])
        assert several[0] != several[1]
