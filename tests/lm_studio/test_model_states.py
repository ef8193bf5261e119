from __future__ import annotations

import json

import pytest

from pixel_llm.errors import APIError, ErrorCode
from pixel_llm.lm_studio import LMStudioClient, ModelState
from pixel_llm.lm_studio.model_states import is_absent, read_model_states
from pixel_llm.lm_studio.replies import RawReply
from pixel_llm.testing import Answer, ErrorBody, ModelLoad, ScriptedLMStudio, Status, WrongType

V0, V1, LOAD = "/api/v0/models", "/api/v1/models", "/api/v1/models/load"
ABSENT = [
    Status(status=404, path=V1),
    Status(status=405, path=V1),
    ErrorBody(message="Unexpected endpoint or method. (GET /api/v1/models)", envelope="string", path=V1),
    ErrorBody(message="Unexpected endpoint or method. (GET /api/v1/models)", path=V1),
    WrongType(path=V1),
]


def without(step, path):
    return type(step)(**{name: getattr(step, name) for name in step.__dataclass_fields__} | {"path": path})


class TestClient:
    def test_the_newer_list(self, world):
        """
        What each model is, whether it is loaded, and how much it takes.
        """
        with ScriptedLMStudio(models=["a", "b"], loaded=["b"]) as server:
            states = world.call(LMStudioClient(server.base_url), "model_states")

            assert [V1] == [request.path for request in server.requests]
        assert (
            ModelState("a", "vlm", False, True, 32768, None),
            ModelState("b", "vlm", True, True, 32768, 4096),
        ) == states

    @pytest.mark.parametrize("absent", ABSENT, ids=str)
    def test_the_older_list(self, absent, world):
        """
        Where the newer one is not there, the older one is asked for; it says the same.
        """
        with ScriptedLMStudio([absent], models=["a", "b"], loaded=["b"]) as server:
            states = world.call(LMStudioClient(server.base_url), "model_states")

            assert [V1, V0] == [request.path for request in server.requests]
        assert (
            ModelState("a", "vlm", False, True, 32768, None),
            ModelState("b", "vlm", True, True, 32768, 4096),
        ) == states

    @pytest.mark.parametrize("absent", ABSENT, ids=str)
    def test_servers_without_a_list(self, absent, world):
        """
        Other servers have none.
        """
        with ScriptedLMStudio([absent, without(absent, V0)]) as server:
            assert world.call(LMStudioClient(server.base_url), "model_states") is None

    @pytest.mark.parametrize(
        ("step", "code"),
        [
            (Status(status=401, path=V1), ErrorCode.ERR_API_UNAUTHORIZED),
            (Status(status=500, path=V1), ErrorCode.ERR_API_SERVER_ERROR),
            (ErrorBody(message="Compute error.", path=V1), ErrorCode.ERR_API_SERVER_ERROR),
        ],
        ids=str,
    )
    def test_errors_are_no_absence(self, step, code, world):
        """
        A server that fails is not one without a list.
        """
        with ScriptedLMStudio([step]) as server, pytest.raises(APIError) as caught:
            world.call(LMStudioClient(server.base_url), "model_states")

        assert code is caught.value.error_code

    @pytest.mark.parametrize(("base", "path"), [("/v1", V1), ("", V1), ("/lm/v1", "/lm" + V1)])
    def test_where_the_list_is(self, base, path, world, serve, raw):
        """
        Beside ``/v1``, whatever is in front of it.
        """
        asked = []

        def handler(connection):
            asked.append(raw.read_request(connection).split(b" ")[1].decode())
            connection.sendall(raw.http({"models": []}))

        assert () == world.call(LMStudioClient(serve(handler).address + base), "model_states")
        assert [path] == asked


def read(document: object) -> tuple[ModelState, ...]:
    return read_model_states(RawReply(200, {}, json.dumps(document).encode(), "http://h"))


NEWER = {"type": "llm", "key": "a", "loaded_instances": [], "max_context_length": 8, "capabilities": {"vision": False}}
OLDER = {"type": "llm", "id": "a", "state": "not-loaded", "max_context_length": 8}


class TestReading:
    @pytest.mark.parametrize(
        ("entry", "state"),
        [
            (NEWER, ModelState("a", "llm", False, False, 8)),
            (NEWER | {"capabilities": {"vision": True}}, ModelState("a", "vlm", False, True, 8)),
            (NEWER | {"capabilities": None, "news": [1]}, ModelState("a", "llm", False, None, 8)),
            (NEWER | {"type": "embedding", "capabilities": None}, ModelState("a", "embeddings", False, None, 8)),
            (
                NEWER | {"loaded_instances": [{"id": "a", "config": {"context_length": 4}}, {}]},
                ModelState("a", "llm", True, False, 8, 4),
            ),
            (NEWER | {"loaded_instances": ["a"], "max_context_length": None}, ModelState("a", "llm", True, False)),
            (OLDER, ModelState("a", "llm", False, False, 8)),
            (OLDER | {"type": "vlm", "state": "loaded"}, ModelState("a", "vlm", True, True, 8)),
            (
                OLDER | {"type": "embeddings", "loaded_context_length": 4},
                ModelState("a", "embeddings", False, False, 8, 4),
            ),
        ],
    )
    def test_entries(self, entry, state):
        """
        Unknown fields are passed by; what is not told is None.
        """
        assert (state,) == read({"models" if "key" in entry else "data": [entry]})

    def test_unknown_kinds_are_left_out(self):
        """
        What is neither a chat nor an embedding model is none of ours.
        """
        assert () == read({"models": [NEWER | {"type": "tts"}, OLDER | {"type": "tts"}, {"key": "a"}]})

    @pytest.mark.parametrize(
        ("document", "why"),
        [
            ({}, "holds no list of models"),
            ({"models": {}}, "holds no list of models"),
            ({"data": [1]}, "holds no list of models"),
            ({"models": [NEWER | {"key": 1}]}, "lists a model whose key is no str"),
            ({"models": [NEWER | {"key": None}]}, "lists a model whose key is no str"),
            ({"models": [NEWER | {"loaded_instances": {}}]}, "lists a model whose loaded_instances is no list"),
            ({"models": [NEWER | {"max_context_length": "8"}]}, "lists a model whose max_context_length is no int"),
            ({"models": [NEWER | {"max_context_length": True}]}, "lists a model whose max_context_length is no int"),
            ({"models": [NEWER | {"capabilities": {"vision": 1}}]}, "lists a model whose vision is no bool"),
            ({"data": [OLDER | {"id": ""}]}, "lists a model whose id is no str"),
            ({"data": [OLDER | {"state": True}]}, "lists a model whose state is no str"),
            ({"data": [OLDER | {"type": 1}]}, "lists a model whose type is no str"),
        ],
    )
    def test_types_are_checked(self, document, why):
        """
        A list that makes no sense is an error that says why.
        """
        with pytest.raises(APIError) as caught:
            read(document)

        assert (ErrorCode.ERR_API_INVALID_RESPONSE, f"the answer of http://h {why}") == (
            caught.value.error_code,
            str(caught.value),
        )

    @pytest.mark.parametrize(
        "body", [b"", b"[]", b"{}", b'{"error": {}}', b'{"error": {"message": 7}}', b'{"error": 7}']
    )
    def test_what_is_no_absence(self, body):
        """
        Only servers that say so do not have the list.
        """
        assert not is_absent(RawReply(200, {}, body, "http://h"))


class TestLoad:
    def test_a_model_is_loaded(self, world):
        """
        The server is asked to, and has it afterwards.
        """
        with ScriptedLMStudio([ModelLoad(path=LOAD, seconds=0.05)], models=["a", "b"], loaded=[]) as server:
            client = LMStudioClient(server.base_url)
            world.call(client, "load", "a")
            states = world.call(client, "model_states")

            assert [(V1, b""), (LOAD, {"model": "a"})] == [(one.path, one.body) for one in server.requests[:2]]
        assert {"a": True, "b": False} == {state.id: state.loaded for state in states}

    def test_a_loaded_model_is_left_alone(self, world):
        """
        LM Studio would load it a second time.
        """
        with ScriptedLMStudio(models=["pub/a"]) as server:
            world.call(LMStudioClient(server.base_url), "load", "a")

            assert [V1] == [request.path for request in server.requests]

    def test_servers_that_load_just_in_time(self, world):
        """
        A chat of one token does it, whatever it says.
        """
        absent = [Status(status=404, path=path) for path in (V1, V0, LOAD)]
        with ScriptedLMStudio([*absent, Answer(text="", finish_reason="length")]) as server:
            world.call(LMStudioClient(server.base_url), "load", "a")
            chat = server.requests[-1]

        assert ("/v1/chat/completions", "a", 1) == (chat.path, chat.body["model"], chat.body["max_tokens"])

    @pytest.mark.parametrize(
        ("steps", "code"),
        [
            ([Status(path=LOAD, status=500, type="model_load_failed")], ErrorCode.ERR_API_SERVER_ERROR),
            ([ErrorBody(path=LOAD, type="model_load_failed")], ErrorCode.ERR_API_SERVER_ERROR),
            ([Status(path=LOAD, status=404), ErrorBody(code="model_not_found")], ErrorCode.ERR_API_MODEL_NOT_FOUND),
            ([Status(path=LOAD, status=404), Status(status=503)], ErrorCode.ERR_API_OVERLOAD),
            ([Status(path=LOAD, status=404), WrongType()], ErrorCode.ERR_API_SERVER_ERROR),
        ],
        ids=str,
    )
    def test_failures(self, steps, code, world):
        """
        They are raised, with their code.
        """
        with ScriptedLMStudio(steps, loaded=[]) as server, pytest.raises(APIError) as caught:
            world.call(LMStudioClient(server.base_url), "load", "a")

        assert code is caught.value.error_code

    def test_another_status_than_loaded(self, world, serve, raw):
        """
        A server that says it has not loaded is believed.
        """
        server = serve(raw.reply_with(raw.http({"models": []}), raw.http({"status": "failed"})))

        with pytest.raises(APIError, match="has not loaded a: status 'failed'"):
            world.call(LMStudioClient(server.address), "load", "a")
