"""LM Studio behind its targets, `lm_studio.chat` and `lm_studio.models`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from pixel_llm.lm_studio import ChatChunk, ChatReply, ChatRequest, LMStudioClient, request_key
from pixel_llm.lm_studio.endpoint import is_same_server
from pixel_llm.lm_studio.servers import Servers
from pixel_llm.resilience.routes.routes import Routes
from pixel_llm.runtime import Policies


class Chat:
    """
    The client of the policy's server, and those of the other servers that its fallbacks name. Safe for concurrent use.

    Args:
        policies: Their `lm_studio` section says which server; their stacks are around its calls.

    Attributes:
        client: Talks to the policy's server, or the first of several.
        ask: Asks it; the same in the four ways: plain and as a stream, for threads and for event loops.
        models: Which models it has.
    """

    def __init__(self, policies: Policies) -> None:
        self._config = config = policies.config.lm_studio
        self._tell = policies.tell
        self._servers = Servers(config, policies.clock, listeners=[self._tell])
        self.client = client = self._servers.first
        self._others: dict[str, LMStudioClient] = {}
        # The client reads the time left before every socket operation: all of them are cooperative.
        endpoint = {"endpoint": lambda *_: client.base_url}
        keys = {"model": lambda request: request.model, **endpoint}
        chat = partial(policies.wrap, "lm_studio.chat", key=self._key, cooperative=True, breaker_key=keys)
        whole = partial(chat, cacheable=_is_whole)
        over = self._routes
        self.ask = whole(client.chat, alternative=self._elsewhere, routes=over(lambda one: one.chat))
        self.ask_async = whole(
            client.chat_async, alternative=self._elsewhere_async, routes=over(lambda one: one.chat_async)
        )
        stream = partial(chat, cacheable=is_whole_stream)
        self.stream = stream(client.stream, alternative=self._stream_elsewhere, routes=over(lambda one: one.stream))
        self.stream_async = stream(
            client.stream_async, alternative=self._stream_elsewhere_async, routes=over(lambda one: one.stream_async)
        )
        models = partial(
            policies.wrap,
            "lm_studio.models",
            key=lambda: self.identity[0],
            cooperative=True,
            breaker_key=endpoint,
        )
        self.models = models(client.models, routes=over(lambda one: one.models))
        self.models_async = models(client.models_async, routes=over(lambda one: one.models_async))

    @property
    def identity(self) -> tuple[str, str]:
        """Tells the servers, and the keys for them, from others, in the keys of caches."""
        return self._servers.identity

    @property
    def last_errors(self) -> dict[str, str]:
        """What each server failed of that has not answered since, by address, where calls can go to several."""
        return self._servers.last_errors

    def close(self) -> None:
        """Close the connections of threads."""
        self._servers.close()
        for client in list(self._others.values()):
            client.close()

    async def aclose(self) -> None:
        """Close the connections of threads and of the running event loop."""
        await self._servers.aclose()
        for client in list(self._others.values()):
            await client.aclose()

    def _routes(self, method: Callable[[LMStudioClient], Callable[..., Any]]) -> Routes | None:
        """Where the calls of a *method* of the clients can go; None if there is one server, which is always ready."""
        if not self._config.has_routes:
            return None
        return Routes({server.name: method(server.client) for server in self._servers}, self._servers)

    def _key(self, request: ChatRequest) -> str:
        return request_key(request, *self.identity)

    # The chat with another model, or on another server; see ``alternative`` of :meth:`Policies.wrap`

    def _elsewhere(self, step: str, name: str) -> Callable[[ChatRequest], ChatReply]:
        client, adapt = self._other(step, name)
        return lambda request: client.chat(adapt(request))

    def _elsewhere_async(self, step: str, name: str) -> Callable[[ChatRequest], Awaitable[ChatReply]]:
        client, adapt = self._other(step, name)

        async def chat(request: ChatRequest) -> ChatReply:
            return await client.chat_async(adapt(request))

        return chat

    def _stream_elsewhere(self, step: str, name: str) -> Callable[[ChatRequest], Iterator[ChatChunk]]:
        client, adapt = self._other(step, name)

        def stream(request: ChatRequest) -> Iterator[ChatChunk]:
            yield from client.stream(adapt(request))

        return stream

    def _stream_elsewhere_async(self, step: str, name: str) -> Callable[[ChatRequest], AsyncIterator[ChatChunk]]:
        client, adapt = self._other(step, name)

        async def stream(request: ChatRequest) -> AsyncIterator[ChatChunk]:
            async for chunk in client.stream_async(adapt(request)):
                yield chunk

        return stream

    def _other(self, step: str, name: str) -> tuple[LMStudioClient, Callable[[ChatRequest], ChatRequest]]:
        """Who is asked, and what the request becomes."""
        if step == "endpoint":
            return self._other_client(name), _unchanged
        return self._servers.best(name), partial(_with_model, name)

    def _other_client(self, base_url: str) -> LMStudioClient:
        client = self._others.get(base_url)
        if client is not None:
            return client
        # A key is for the server that it was given for.
        keys = [server.api_key for server in self._config.servers if is_same_server(base_url, server.base_url)]
        api_key = keys[0].reveal() if keys and keys[0] is not None else None
        # setdefault() is atomic, so that two threads get the same one.
        return self._others.setdefault(base_url, LMStudioClient(base_url, api_key=api_key, listeners=[self._tell]))


def _unchanged(request: ChatRequest) -> ChatRequest:
    return request


def _with_model(model: str, request: ChatRequest) -> ChatRequest:
    return replace(request, model=model)


def _is_whole(reply: Any) -> bool:
    """Truncated replies are never kept for later."""
    return not (isinstance(reply, ChatReply) and reply.truncated)


def is_whole_stream(chunks: Iterable[Any]) -> bool:
    """True for the chunks of the model's own answer, come to its end: nothing else is kept for later."""
    return all(isinstance(chunk, ChatChunk) and chunk.finish_reason != "length" for chunk in chunks)
