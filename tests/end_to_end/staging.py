"""A stage for whole calls: a scripted LM Studio on a real socket, the shipped policies, the torch encoder."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from pixel_llm import CaptionResult, HybridPixelLLM
from pixel_llm.hybrid import BatchItem
from pixel_llm.testing import ScriptedLMStudio

CHAT = "lm_studio.chat"

#: No console, which `development` has: the log's thread would write among the dots of pytest, between two tests.
UNSHOWN = {"console": False}


class Stage:
    """A server with a script, and a model that talks to it under a profile."""

    def __init__(self, model: HybridPixelLLM, server: ScriptedLMStudio, clock: Any, world: str) -> None:
        self.model, self.server, self.clock, self._world = model, server, clock, world
        self.events: list[Any] = []

    def ask(self, picture: Any = None, prompt: str | None = None) -> CaptionResult:
        """Caption *picture* in the world of this test, sync or async."""
        picture = red() if picture is None else picture
        if self._world == "sync":
            return self.model.generate(picture, prompt)
        return asyncio.run(self.model.generate_async(picture, prompt))

    def batch(self, images: Any, **options: Any) -> list[BatchItem]:
        """Caption many in the world of this test."""
        if self._world == "sync":
            return self.model.generate_batch(images, **options)
        return asyncio.run(self.model.generate_batch_async(images, **options))

    def stream(self, picture: Any = None, prompt: str | None = None) -> tuple[list[str], Any]:
        """The pieces of a caption, read in the world of this test, and the stream that they came from."""
        picture = red() if picture is None else picture
        if self._world == "sync":
            stream = self.model.stream(picture, prompt)
            return list(stream), stream

        async def read() -> tuple[list[str], Any]:
            stream = self.model.stream_async(picture, prompt)
            return [piece async for piece in stream], stream

        return asyncio.run(read())

    @property
    def breaker(self) -> Any:
        return self.model.policies.breaker(CHAT)

    def times_asked(self) -> int:
        return sum(request.path.endswith("/chat/completions") for request in self.server.requests)


def red() -> Any:
    return np.full((48, 64, 3), (200, 30, 30), np.uint8)


def blue() -> Any:
    return np.full((48, 64, 3), (30, 30, 200), np.uint8)
