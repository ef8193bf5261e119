"""httpx clients over a policy's transport, in both worlds and both libraries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import httpx2

from pixel_llm import AsyncPolicyTransport, Policies, PolicyTransport, load_policies
from pixel_llm.resilience import SYSTEM_CLOCK, Clock

TARGET = "shop.ask"
WORLDS = ("sync", "async")
LIBRARIES = (httpx, httpx2)
CHAT = "/chat/completions"
QUESTION = {"model": "m", "messages": [{"role": "user", "content": "What is it?"}]}


def policies_of(*, clock: Clock = SYSTEM_CLOCK, listeners: Any = (), functions: Any = None, **layers: Any) -> Policies:
    """A policy with one target, whose layers are as a policy file would have them."""
    layers.setdefault("idempotent", True)
    overrides = {"targets": {TARGET: layers}, "logging": {"level": "CRITICAL"}}
    return load_policies(overrides=overrides, variables={}, clock=clock, listeners=listeners, functions=functions)


class Clients:
    """Makes clients over policies in one world, and sends requests through them."""

    def __init__(self, world: str, library: Any = httpx) -> None:
        self.world = world
        self.library = library
        self.is_async = world == "async"

    def transport(self, policies: Policies, wrapped: Any = None, **options: Any) -> Any:
        kind = AsyncPolicyTransport if self.is_async else PolicyTransport
        return kind(policies, TARGET, wrapped, **options)

    def run(self, transport: Any, *steps: Callable[[Any], Any], **options: Any) -> list[Any]:
        """What each step gives for the client: a result, or the exception that it raised."""
        kind = self.library.AsyncClient if self.is_async else self.library.Client
        if not self.is_async:
            with kind(transport=transport, **options) as client:
                return [self._try(step, client) for step in steps]

        async def main() -> list[Any]:
            async with kind(transport=transport, **options) as client:
                return [await self._try_async(step, client) for step in steps]

        return asyncio.run(main())

    def send(self, transport: Any, url: str, times: int = 1, **options: Any) -> Any:
        """The last of the responses, or exceptions, to so many equal requests."""
        options.setdefault("json", QUESTION)
        client_options = {name: options.pop(name) for name in ("timeout", "follow_redirects") if name in options}
        step = lambda client: client.post(url, **options)  # noqa: E731 - it is what is repeated
        return self.run(transport, *[step] * times, **client_options)[-1]

    def stream(
        self, transport: Any, url: str, each: Callable[[bytes], Any] = lambda chunk: None, **options: Any
    ) -> Any:
        """The response to a request and the chunks of its body, or the exception that ended it."""

        def read(client: Any) -> Any:
            with client.stream("GET", url) as response:
                self.chunks = []
                for chunk in response.iter_bytes():
                    self.chunks.append(chunk)
                    each(chunk)
                return response

        async def read_async(client: Any) -> Any:
            async with client.stream("GET", url) as response:
                self.chunks = []
                async for chunk in response.aiter_bytes():
                    self.chunks.append(chunk)
                    each(chunk)
                return response

        return self.run(transport, read_async if self.is_async else read, **options)[0]

    @staticmethod
    def _try(step: Callable[[Any], Any], client: Any) -> Any:
        try:
            return step(client)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            return error

    @staticmethod
    async def _try_async(step: Callable[[Any], Any], client: Any) -> Any:
        try:
            return await step(client)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            return error
