"""What the client costs, under the whole production policy: beside bare httpx, and beside the peers' calls."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import numpy as np
import openai

from benchmarks.answering import CHUNKS, MODEL, TEXT, answering
from benchmarks.measure import in_turn, p50
from pixel_llm import HybridPixelLLM, load_policies
from pixel_llm.hybrid.chatting import Chat
from pixel_llm.lm_studio import ChatRequest, chat_payload

REQUEST = ChatRequest(
    model=MODEL,
    prompt="What does the picture show?",
    description="A colour picture of 640×480 pixels. Main colours: green 55 % (in the lower part), light blue 31 %.",
    max_tokens=256,
    temperature=0.2,
    seed=7,
    system_prompt="Describe the picture in one sentence.",
)
_PAYLOAD = chat_payload(REQUEST)
_OURS = "pixel-llm, the whole production policy"
#: What the peers' calls take of it.
_WORDS: dict[str, Any] = {name: _PAYLOAD[name] for name in ("messages", "max_tokens", "temperature", "seed")}
_AT_ONCE, _CALLS = 64, 1_280


@contextmanager
def _chat(base_url: str) -> Iterator[Chat]:
    """The chat with a server, behind the stacks of the production policy."""
    with load_policies(profile="production", overrides=_config(base_url)) as policies:
        chat = Chat(policies)
        yield chat
        chat.close()


def _config(base_url: str) -> dict[str, Any]:
    return {"lm_studio": {"base_url": base_url}, "logging": {"file": None}}


def chat() -> dict[str, float]:
    """Seconds a sync call, p50."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # or it asks a server for its prices
    import litellm

    with ExitStack() as exits:
        base_url = exits.enter_context(answering())
        ours = exits.enter_context(_chat(base_url))
        bare = exits.enter_context(httpx.Client())
        official = exits.enter_context(openai.OpenAI(base_url=base_url, api_key="none"))
        settings = {"model": f"openai/{MODEL}", "api_base": base_url, "api_key": "none"}
        router = litellm.Router(model_list=[{"model_name": MODEL, "litellm_params": settings}])
        url = f"{base_url}/chat/completions"
        candidates: dict[str, Callable[[], str]] = {
            "httpx: post and JSON": lambda: bare.post(url, json=_PAYLOAD).json()["choices"][0]["message"]["content"],
            _OURS: lambda: ours.ask(REQUEST).text,
            "openai": lambda: official.chat.completions.create(model=MODEL, **_WORDS).choices[0].message.content or "",
            "litellm: Router": lambda: router.completion(model=MODEL, **_WORDS).choices[0].message.content,
        }
        assert {TEXT} == {call() for call in candidates.values()}
        return p50(candidates, calls=100)


def chat_at_once() -> dict[str, float]:
    """Seconds a call, of 1,280 calls by 64 tasks."""
    with answering() as base_url, _chat(base_url) as ours:
        url = f"{base_url}/chat/completions"

        async def through_the_stack() -> None:
            async def call() -> str:
                return str((await ours.ask_async(REQUEST)).text)

            await _at_once(call)

        async def bare() -> None:
            async with httpx.AsyncClient() as client:

                async def call() -> str:
                    response = await client.post(url, json=_PAYLOAD)
                    return str(response.json()["choices"][0]["message"]["content"])

                await _at_once(call)

        candidates = {"httpx: post and JSON": bare, _OURS: through_the_stack}
        found = in_turn({name: _on_a_loop(run) for name, run in candidates.items()}, rounds=9)
    return {name: seconds / _CALLS for name, seconds in found.items()}


async def _at_once(call: Callable[[], Awaitable[str]]) -> None:
    async def work() -> None:
        for _ in range(_CALLS // _AT_ONCE):
            assert await call() == TEXT

    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))


def _on_a_loop(run: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], object]:
    return lambda: asyncio.run(run())


def stream() -> dict[str, float]:
    """Seconds a chunk, of a stream of 500."""
    with answering() as base_url, _chat(base_url) as ours, httpx.Client() as client:
        url, payload = f"{base_url}/chat/completions", _PAYLOAD | {"stream": True}

        def bare() -> int:
            words = 0
            with client.stream("POST", url, json=payload) as response:
                for line in response.iter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        words += "content" in json.loads(line[6:])["choices"][0]["delta"]
            return words

        def through_the_stack() -> int:
            return sum(bool(chunk.text) for chunk in ours.stream(REQUEST))

        assert CHUNKS == bare() == through_the_stack()
        found = in_turn({"httpx: lines and JSON": bare, _OURS: through_the_stack}, rounds=31)
    return {name: seconds / CHUNKS for name, seconds in found.items()}


def memory() -> dict[str, float]:
    """Bytes in use after so many captions, of pictures that come again."""
    colours = np.random.default_rng(1).integers(0, 256, (50, 2, 2, 3), np.uint8)
    pictures = [np.kron(colour, np.ones((16, 16, 1), np.uint8)) for colour in colours]
    sizes = {}
    with answering() as base_url, HybridPixelLLM("production", error_config=_config(base_url)) as model:
        model.load()
        tracemalloc.start()
        for number in range(1, 10_001):
            model.generate(pictures[number % len(pictures)])
            if number in (2_000, 10_000):
                gc.collect()
                sizes[f"{number:,} captions"] = float(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    return sizes
