"""A stage for calls to several servers: scripted LM Studios on real sockets, and a model that is asked in four ways."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from pixel_llm import CaptionResult, HybridPixelLLM
from pixel_llm.testing import ScriptedLMStudio

CHAT = "lm_studio.chat"
MODEL = "qwen2.5-vl-7b-instruct"
WAYS = ("sync", "async", "stream", "async stream")

RED = np.full((48, 64, 3), (200, 30, 30), np.uint8)


class Fleet:
    """The servers, and the model that knows them."""

    def __init__(self, model: HybridPixelLLM, servers: list[ScriptedLMStudio], way: str) -> None:
        self.model, self.servers, self.way = model, servers, way
        self.events: list[Any] = []

    def ask(self) -> CaptionResult:
        """Caption a picture."""
        if self.way == "sync":
            return self.model.generate(RED)
        if self.way == "stream":
            with self.model.stream(RED) as stream:
                "".join(stream)
                return stream.result
        return asyncio.run(self.ask_async())

    async def ask_async(self) -> CaptionResult:
        """Caption a picture in this event loop."""
        if self.way == "async":
            return await self.model.generate_async(RED)
        async with self.model.stream_async(RED) as stream:
            async for _ in stream:
                pass
            return stream.result

    def ask_at_once(self, count: int) -> list[CaptionResult | Exception]:
        """So many callers at once, in threads or in tasks."""
        if self.way.startswith("async"):

            async def all_of_them() -> list[Any]:
                return await asyncio.gather(*(self.ask_async() for _ in range(count)), return_exceptions=True)

            return asyncio.run(all_of_them())
        results: list[CaptionResult | Exception] = []

        def ask() -> None:
            try:
                results.append(self.ask())
            except Exception as error:  # noqa: BLE001 - the case looks at it
                results.append(error)

        threads = [threading.Thread(target=ask) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    def chats(self) -> list[int]:
        """How often each server was asked."""
        return [self.count(server, "/chat/completions") for server in self.servers]

    def loads(self) -> list[int]:
        """How often each server was told to load a model."""
        return [self.count(server, "/models/load") for server in self.servers]

    @staticmethod
    def count(server: ScriptedLMStudio, path: str) -> int:
        return sum(request.path.endswith(path) for request in server.requests)

    def breaker(self, index: int) -> Any:
        return self.model.policies.breaker(CHAT, key=self.servers[index].base_url)

    @property
    def addresses(self) -> list[str]:
        return [server.base_url for server in self.servers]


def make_fleet(exits: ExitStack, way: str) -> Callable[..., Fleet]:
    """``fleet({...server...}, {...}, target={...}, lm_studio={...})``: each server's arguments, then the policy's."""

    def make(
        *servers: dict[str, Any], target: dict[str, Any] | None = None, clock: Any = None, **lm_studio: Any
    ) -> Fleet:
        running = [exits.enter_context(ScriptedLMStudio(**options)) for options in servers]
        addresses = [{"base_url": server.base_url} for server in running]
        where: dict[str, Any] = {"endpoints": addresses} if len(addresses) > 1 else addresses[0]
        config = {
            "lm_studio": {"vision": "image", "model": MODEL, **where, **lm_studio},
            "targets": {
                CHAT: {"retry": None, "circuit_breaker": {"failure_threshold": 2}, **(target or {})},
                "pixel_llm.generate": {"deadline": "20s", "fallback": None},
            },
        }
        events: list[Any] = []
        options = {} if clock is None else {"clock": clock}
        model = exits.enter_context(HybridPixelLLM("basic", error_config=config, listeners=[events.append], **options))
        fleet = Fleet(model, running, way)
        fleet.events = events
        return fleet

    return make
