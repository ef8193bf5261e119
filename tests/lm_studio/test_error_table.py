"""
Every error that LM Studio and servers like it were seen to answer with, in every form that it was seen in.

Each row of the table comes in three envelopes, with its own statuses and with 200, to a plain chat and to a stream,
there also as an event: with or without ``event: error``, before the first piece and after. In both worlds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from pixel_llm.errors import APIError, ErrorCode, PixelLMError
from pixel_llm.lm_studio import ChatRequest, LMStudioClient
from pixel_llm.testing import BrokenStream, ErrorBody, ScriptedLMStudio, Status

REQUEST = ChatRequest(model="qwen2.5-vl-7b-instruct", prompt="What is it?")

CRASHED = "the model crashed or was unloaded"


@dataclass(frozen=True)
class Row:
    """*text* is what the server says, *names* its ``type`` and ``code``; *advice* is in our message."""

    case: str
    statuses: tuple[int, ...]
    text: str
    code: ErrorCode
    advice: str
    names: tuple[str | None, str | None] = (None, None)


ROWS = [
    Row(
        "unknown model",
        (400, 404),
        'Invalid model identifier "x". Please specify a valid downloaded model (e.g., a, b).',
        ErrorCode.ERR_API_MODEL_NOT_FOUND,
        "use a name that the server lists",
        ("invalid_request_error", "model_not_found"),
    ),
    Row(
        "unknown model, older",
        (404,),
        'Model "x" not found. Please specify a valid model.',
        ErrorCode.ERR_API_MODEL_NOT_FOUND,
        "use a name that the server lists",
    ),
    Row(
        "nothing loaded",
        (400, 404),
        "No models loaded. Please load a model in the developer page or use the `lms load` command.",
        ErrorCode.ERR_API_OVERLOAD,
        "no model is loaded in LM Studio: load one in the developer page, or turn on just-in-time loading",
        ("invalid_request_error", None),
    ),
    Row(
        "load failed",
        (500,),
        'Failed to load model "x". Error: loading was aborted.',
        ErrorCode.ERR_API_SERVER_ERROR,
        "it may not fit into memory",
        ("model_load_failed", None),
    ),
    Row(
        "context overflow",
        (400,),
        "The number of tokens to keep from the initial prompt is greater than the context length"
        " (n_keep: 5012>= n_ctx: 4096). Try to load the model with a larger context length.",
        ErrorCode.ERR_API_CONTEXT_LENGTH,
        "load the model with a longer context",
    ),
    Row(
        "bad image",
        (400,),
        "'url' field must be a base64 encoded image.",
        ErrorCode.ERR_API_BAD_REQUEST,
        "send the picture as PNG or JPEG",
    ),
    Row(
        "image to a text-only model",
        (400,),
        "Model does not support images. Please use a model that does.",
        ErrorCode.ERR_API_BAD_REQUEST,
        "load a vision model",
    ),
    Row(
        "vision add-on missing",
        (400,),
        "Error in channel: Vision add-on is not loaded, but images were provided.",
        ErrorCode.ERR_API_BAD_REQUEST,
        "load a vision model",
    ),
    Row(
        "image to a text-only llama.cpp",
        (500,),
        "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
        ErrorCode.ERR_API_BAD_REQUEST,
        "load a vision model",
        ("server_error", None),
    ),
    Row(
        "model crash",
        (400,),
        "The model has crashed without additional information. (Exit code: 18446744072635812000)",
        ErrorCode.ERR_API_SERVER_ERROR,
        CRASHED,
    ),
    Row(
        "unloaded",
        (400, 500),
        "Model is unloaded.",
        ErrorCode.ERR_API_SERVER_ERROR,
        CRASHED,
    ),
    Row(
        "channel error",
        (400, 500),
        "Channel Error",
        ErrorCode.ERR_API_SERVER_ERROR,
        CRASHED,
    ),
    Row(
        "compute error",
        (400, 500),
        "Compute error.",
        ErrorCode.ERR_API_SERVER_ERROR,
        CRASHED,
    ),
    Row(
        "context exceeded while running",
        (400, 500),
        "Context size has been exceeded.",
        ErrorCode.ERR_API_CONTEXT_LENGTH,
        "load the model with a longer context",
    ),
    Row(
        "key missing",
        (401,),
        "An LM Studio API token is required to make requests to this server.",
        ErrorCode.ERR_API_UNAUTHORIZED,
        "set lm_studio.api_key",
        ("invalid_request", "invalid_api_key"),
    ),
    Row(
        "key wrong",
        (401, 403),
        "Malformed LM Studio API token provided: ***",
        ErrorCode.ERR_API_UNAUTHORIZED,
        "set lm_studio.api_key",
        ("invalid_request", "invalid_api_key"),
    ),
    Row(
        "loading",
        (503,),
        "Loading model",
        ErrorCode.ERR_API_OVERLOAD,
        "the model is still being loaded",
        ("unavailable_error", None),
    ),
    Row("a proxy's limit", (429,), "Too Many Requests", ErrorCode.ERR_API_RATE_LIMIT, "ask less often"),
    Row(
        "wrong path",
        (404,),
        "Unexpected endpoint or method. (POST /chat/completions)",
        ErrorCode.ERR_API_BAD_REQUEST,
        "base_url should end in /v1",
    ),
]

ENVELOPES = ("string", "nested", "nested+message")
EVENTS = [(how, chunks) for how in ("error", "error_event") for chunks in (0, 2)]
rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.case)
envelopes = pytest.mark.parametrize("envelope", ENVELOPES)


def fields(row, envelope):
    names = row.names if envelope == "nested" else (None, None)
    return {"message": row.text, "envelope": envelope, "type": names[0], "code": names[1]}


def answers(row, envelope):
    """The row as a plain body, with each of its statuses and with 200."""
    return [
        *(Status(status=status, **fields(row, envelope)) for status in row.statuses),
        ErrorBody(**fields(row, envelope)),
    ]


def check(row, error, status):
    assert isinstance(error, APIError)
    assert (row.code, status) == (error.error_code, error.details["status"])
    assert row.text[:60] in str(error)
    assert row.advice in str(error)
    assert row.text[:60] in error.details["body"].replace('\\"', '"')


def failure(world, client, streams):
    """What a chat, or a stream, ends in, and what came before."""
    pieces = []
    try:
        if streams:
            world.stream(client, REQUEST, pieces)
        else:
            pieces.append(world.call(client, "chat", REQUEST))
    except PixelLMError as error:
        return error, pieces
    raise AssertionError(f"nothing was raised, but there was {pieces}")


@rows
@envelopes
@pytest.mark.parametrize("streams", [False, True], ids=["plain", "stream"])
def test_bodies(row, envelope, streams, world):
    """
    Each row has its code, keeps the server's words and says what to do, whichever status it comes with.
    """
    for step in answers(row, envelope):
        with ScriptedLMStudio([step]) as server:
            error, pieces = failure(world, LMStudioClient(server.base_url), streams)

            assert 1 == len(server.requests)
        check(row, error, step.status if isinstance(step, Status) else 200)
        assert [] == pieces


@rows
@envelopes
@pytest.mark.parametrize(("how", "chunks"), EVENTS)
def test_events(row, envelope, how, chunks, world):
    """
    The same as an event of a stream, which comes with 200; what had come before it is not lost.
    """
    with ScriptedLMStudio([BrokenStream(how=how, chunks=chunks, **fields(row, envelope))]) as server:
        error, pieces = failure(world, LMStudioClient(server.base_url), True)

    check(row, error, 200)
    assert ["A", " picture"][:chunks] == [piece.text for piece in pieces]


class TestUnknown:
    """What nobody has seen yet."""

    @envelopes
    @pytest.mark.parametrize("streams", [False, True], ids=["plain", "stream"])
    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (402, "BAD_REQUEST"),
            (418, "BAD_REQUEST"),
            (500, "SERVER_ERROR"),
            (502, "SERVER_ERROR"),
            (599, "SERVER_ERROR"),
        ],
    )
    def test_by_their_hundreds(self, envelope, streams, status, code, world):
        """
        4xx is a bad request, 5xx an error of the server's; its words are kept.
        """
        step = Status(status=status, message="The moon is in the wrong house.", envelope=envelope)
        with ScriptedLMStudio([step]) as server:
            error, _ = failure(world, LMStudioClient(server.base_url), streams)

        assert (f"ERR_API_{code}", status) == (error.error_code, error.details["status"])
        assert "The moon is in the wrong house." in str(error)
        assert "The moon is in the wrong house." in error.details["body"]

    @pytest.mark.parametrize("streams", [False, True], ids=["plain", "stream"])
    @pytest.mark.parametrize("status", [200, 418, 500])
    def test_the_text_is_bounded_and_clean(self, streams, status, world, serve, raw):
        """
        A server moves nobody's cursor, and fills nobody's log.
        """
        body = json.dumps({"error": "\x1b[2J\r\nboo\u202e" + "x" * 100_000}).encode()
        server = serve(raw.reply_with(raw.http(body, f"{status} Strange")))

        error, _ = failure(world, LMStudioClient(server.address), streams)

        assert (True, True) == (str(error).isprintable(), error.details["body"].isprintable())
        assert len(str(error)) < 400
        assert len(error.details["body"]) <= 500
        assert "boo" in str(error)


class TestSilentEnds:
    """How a context that overflows shows itself in some versions (#2339): nothing at all is said."""

    def test_an_empty_stream(self, world):
        """
        It is no answer, and the message names what can be the reason.
        """
        with ScriptedLMStudio([BrokenStream(how="end", chunks=0)]) as server:
            error, pieces = failure(world, LMStudioClient(server.base_url), True)

        assert (ErrorCode.ERR_API_INVALID_RESPONSE, []) == (error.error_code, pieces)
        assert "does not fit into the context" in str(error)
