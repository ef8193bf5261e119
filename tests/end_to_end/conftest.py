"""A stage for whole calls: a scripted LM Studio on a real socket, the shipped policies, the torch encoder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from pixel_llm import CaptionResult, HybridPixelLLM
from pixel_llm.hybrid import BatchItem
from pixel_llm.testing import ScriptedLMStudio, Step, VirtualClock

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


@pytest.fixture(params=["sync", "async"])
def world(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stage(world: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    """Set the stage: ``stage(step, step, …, profile="production", clock=…, overrides=…)``."""
    monkeypatch.chdir(tmp_path)
    with ExitStack() as exits:

        def make(
            *script: Step,
            profile: str = "production",
            clock: Any = None,
            on_step: Callable[[Any, Any], None] | None = None,
            overrides: dict[str, Any] | None = None,
            **server_options: Any,
        ) -> Stage:
            clock = clock or VirtualClock()
            tell = None if on_step is None else (lambda step: on_step(clock, step))
            server = exits.enter_context(ScriptedLMStudio(script=list(script), on_step=tell, **server_options))
            overrides = overrides or {}
            config = {
                **overrides,
                "lm_studio": {"base_url": server.base_url, **overrides.get("lm_studio", {})},
                "logging": {**UNSHOWN, **overrides.get("logging", {})},
            }
            events: list[Any] = []
            model = exits.enter_context(
                HybridPixelLLM(profile, error_config=config, clock=clock, listeners=[events.append])
            )
            made = Stage(model, server, clock, world)
            made.events = events
            return made

        yield make
