"""The official client and ours read the same scripted streams. Where it goes silent, ours raises."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import openai
import pytest

from pixel_llm.errors import ErrorCode, PixelLMError
from pixel_llm.lm_studio import ChatRequest, LMStudioClient
from pixel_llm.testing import Answer, BrokenStream, Drip, EmptyChoices, ErrorBody, ScriptedLMStudio, Status, Truncated

MODEL = "qwen2.5-vl-7b-instruct"
PROMPT = "What is it?"
LOST, NONSENSE = ErrorCode.ERR_CONN_LOST, ErrorCode.ERR_API_INVALID_RESPONSE


@dataclass(frozen=True)
class Seen:
    """What a client got out of a stream: the text, the reason why it ended, and whether it raised."""

    text: str
    finish_reason: str | None = None
    raised: bool = False


def theirs(base_url: str) -> Seen:
    text, reason = "", None
    with openai.OpenAI(base_url=base_url, api_key="lm-studio", max_retries=0) as client:
        try:
            messages = [{"role": "user", "content": PROMPT}]
            for chunk in client.chat.completions.create(model=MODEL, messages=messages, stream=True):
                for choice in chunk.choices or ():
                    text += choice.delta.content or ""
                    reason = choice.finish_reason or reason
        except Exception:  # noqa: BLE001 - what it raises is its business: httpx's exceptions come through, too
            return Seen(text, reason, raised=True)
    return Seen(text, reason)


def ours(base_url: str, world: str) -> tuple[Seen, ErrorCode | None]:
    pieces = []

    async def read():
        async with LMStudioClient(base_url) as client:
            async for piece in client.stream_async(request):
                pieces.append(piece)  # noqa: PERF401 - those before an error are wanted

    request, code = ChatRequest(model=MODEL, prompt=PROMPT), None
    try:
        if world == "async":
            asyncio.run(read())
        else:
            with LMStudioClient(base_url) as client:
                pieces.extend(client.stream(request))
    except PixelLMError as error:
        code = error.error_code
    reason = pieces[-1].finish_reason if pieces else None
    return Seen("".join(piece.text for piece in pieces), reason, raised=code is not None), code


def both(step, world):
    with ScriptedLMStudio([step, step]) as server:
        return theirs(server.base_url), *ours(server.base_url, world)


@pytest.fixture(params=["sync", "async"])
def world(request):
    return request.param


@pytest.mark.parametrize(
    "step",
    [
        Answer(text="A small cat."),
        Answer(text="A cut", finish_reason="length"),
        Answer(text="Ein Löwe 🦁 schläft."),
        Drip(text="A small cat.", interval=0.0),
        Drip(text="A small cat.", part="chunks", interval=0.001),
    ],
    ids=str,
)
def test_healthy_streams(step, world):
    """
    Both see the same text, and why it ended.
    """
    their, our, _ = both(step, world)

    assert their == our
    assert not our.raised


@pytest.mark.parametrize(
    "step",
    [
        Status(status=500),
        BrokenStream(how="error", message="Compute error."),
        BrokenStream(how="error_event", message="Compute error."),
        BrokenStream(how="truncated"),
        BrokenStream(how="reset"),
        Truncated(),
    ],
    ids=str,
)
def test_errors_that_both_see(step, world):
    """
    Both raise; ours has given at least as much text before.
    """
    their, our, _ = both(step, world)

    assert (True, True, True) == (their.raised, our.raised, our.text.startswith(their.text))


@pytest.mark.parametrize(
    ("step", "text", "code"),
    [
        (BrokenStream(how="end"), "A picture", LOST),
        (BrokenStream(how="end", chunks=0), "", NONSENSE),
        (BrokenStream(how="text"), "A picture", NONSENSE),
        (BrokenStream(how="text", chunks=0), "", NONSENSE),
        (EmptyChoices(), "", NONSENSE),
        (Answer(text=""), "", NONSENSE),
        (ErrorBody(message="Compute error."), "", ErrorCode.ERR_API_SERVER_ERROR),
        (ErrorBody(message="Model is unloaded.", envelope="string"), "", ErrorCode.ERR_API_SERVER_ERROR),
    ],
    ids=str,
)
def test_where_the_official_client_is_silent(step, text, code, world):
    """
    To it these are streams that have ended; ours says what is wrong.
    """
    their, our, our_code = both(step, world)

    assert (False, text) == (their.raised, their.text)
    assert (True, text, code) == (our.raised, our.text, our_code)


def test_thoughts_that_are_the_answer(world):
    """
    The official client leaves them to its caller; ours takes them for the answer, and says so.
    """
    their, our, _ = both(Answer(text="", reasoning_content="A small cat."), world)

    assert (Seen("", "stop"), Seen("A small cat.", "stop")) == (their, our)
