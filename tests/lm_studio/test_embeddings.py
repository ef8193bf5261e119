from __future__ import annotations

import json

import pytest

from pixel_llm.errors import APIError, ErrorCode, ValidationError
from pixel_llm.lm_studio import LMStudioClient
from pixel_llm.lm_studio.embeddings import read_embeddings
from pixel_llm.lm_studio.replies import RawReply
from pixel_llm.testing import Answer, ErrorBody, ScriptedLMStudio


class TestClient:
    def test_a_vector_for_each_text(self, world):
        """
        In the order of the texts; equal texts have equal ones.
        """
        with ScriptedLMStudio() as server:
            reply = world.call(LMStudioClient(server.base_url), "embeddings", ["a b", "c", "a b"], "embedder")
            (request,) = server.requests

        first, second, third = reply.vectors
        assert (8, True, False) == (len(first), first == third, first == second)
        assert ("embedder", True, 5) == (reply.model, reply.model_matches, reply.prompt_tokens)
        assert ("/v1/embeddings", {"model": "embedder", "input": ["a b", "c", "a b"], "encoding_format": "float"}) == (
            request.path,
            request.body,
        )

    def test_another_model_answers(self, world):
        """
        Vectors of different models can't be compared, so the reply says who answered.
        """
        with ScriptedLMStudio([Answer(path="/v1/embeddings", model="other")]) as server:
            reply = world.call(LMStudioClient(server.base_url), "embeddings", ["a"], "embedder")

        assert ("other", "embedder", False) == (reply.model, reply.requested_model, reply.model_matches)

    def test_errors(self, world):
        """
        As everywhere, also with status 200.
        """
        step = ErrorBody(path="/v1/embeddings", code="model_not_found")
        with ScriptedLMStudio([step]) as server, pytest.raises(APIError) as caught:
            world.call(LMStudioClient(server.base_url), "embeddings", ["a"], "embedder")

        assert ErrorCode.ERR_API_MODEL_NOT_FOUND is caught.value.error_code

    @pytest.mark.parametrize(
        ("texts", "message", "code"),
        [
            ("a", "texts must be a list of texts (got str)", ErrorCode.ERR_VAL_INVALID_RANGE),
            (b"a", "texts must be a list of texts (got bytes)", ErrorCode.ERR_VAL_INVALID_RANGE),
            (["a", 1], "texts must be a list of texts (got list)", ErrorCode.ERR_VAL_INVALID_RANGE),
            (None, "texts must be a list of texts (got NoneType)", ErrorCode.ERR_VAL_INVALID_RANGE),
            (iter(["a"]), "texts must be a list of texts (got list_iterator)", ErrorCode.ERR_VAL_INVALID_RANGE),
            ([], "texts must not be empty", ErrorCode.ERR_VAL_EMPTY_INPUT),
        ],
    )
    def test_wrong_texts(self, texts, message, code, world):
        """
        They are refused before anything is sent.
        """
        with ScriptedLMStudio() as server, pytest.raises(ValidationError) as caught:
            world.call(LMStudioClient(server.base_url), "embeddings", texts, "embedder")

        assert (message, code, 0) == (str(caught.value), caught.value.error_code, len(server.requests))


def read(document, count=2):
    return read_embeddings(RawReply(200, {}, json.dumps(document).encode(), "http://h"), "m", count)


class TestReading:
    def test_order(self):
        """
        It is that of the indices, not of arrival; whole numbers are numbers.
        """
        data = [{"index": 1, "embedding": [1, 0.5]}, {"index": 0, "embedding": [0.25, 2]}]

        assert ((0.25, 2.0), (1.0, 0.5)) == read({"data": data}).vectors

    def test_without_indices(self):
        """
        The order is taken for that of the texts; the model and the tokens may be untold.
        """
        reply = read({"data": [{"embedding": [1.0]}, {"embedding": [2.0]}], "model": ""})

        assert (((1.0,), (2.0,)), "m", None) == (reply.vectors, reply.model, reply.prompt_tokens)

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (None, "holds no list of vectors"),
            ([1, 2], "holds no list of vectors"),
            ([{"embedding": [1.0]}], "holds 1 vectors for 2 texts"),
            ([{"index": 0, "embedding": [1.0]}] * 2, "does not tell which vector belongs to which text"),
            ([{"index": 1, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}], "does not tell which"),
            ([{"index": "0", "embedding": [1.0]}, {"index": "1", "embedding": [1.0]}], "does not tell which"),
            ([{"embedding": [1.0]}, {"embedding": [1.0, 2.0]}], "holds vectors of different lengths"),
            ([{"embedding": [1.0]}, {"embedding": []}], "holds a vector that is no list of finite numbers"),
            ([{"embedding": [1.0]}, {"embedding": "AAAA"}], "holds a vector that is no list of finite numbers"),
            ([{"embedding": [1.0]}, {"embedding": [True]}], "holds a vector that is no list of finite numbers"),
            ([{"embedding": [1.0]}, {"embedding": [float("nan")]}], "holds a vector that is no list of finite numbers"),
            ([{"embedding": [1.0]}, {"embedding": [10**400]}], "holds a vector that is no list of finite numbers"),
        ],
    )
    def test_nonsense(self, data, why):
        """
        It is an error that says why.
        """
        with pytest.raises(APIError, match=why) as caught:
            read({"data": data})

        assert ErrorCode.ERR_API_INVALID_RESPONSE is caught.value.error_code
