"""LM Studio behind its targets, `lm_studio.chat` and `lm_studio.models`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from pixel_llm.lm_studio import ChatChunk, ChatReply, ChatRequest, LMStudioClient, request_key
from pixel_llm.lm_studio.endpoint import is_same_server
from pixel_llm.runtime import Policies


class Chat:
    """
    The client of the policy's server, and those of the other servers that its fallbacks name. Safe for concurrent use.

    Args:
        policies: Their `lm_studio` section says which server; their stacks are around its calls.

    Attributes:
        client: Talks to the policy's server.
        ask: Asks it; the same in the four ways: plain and as a stream, for threads and for event loops.
        models: Which models it has.
    """

    def __init__(self, policies: Policies) -> None:
        self._config = policies.config.lm_studio
        key = self._config.api_key
        self._api_key = key.reveal() if key is not None else None
        self.client = LMStudioClient(self._config.base_url, api_key=self._api_key)
        self._others: dict[str, LMStudioClient] = {}
        # The client reads the time left before every socket operation: all of them are cooperative.
        endpoint = {"endpoint": lambda *_: self.client.base_url}
        keys = {"model": lambda request: request.model, **endpoint}
        chat = partial(policies.wrap, "lm_studio.chat", key=self._key, cooperative=True, breaker_key=keys)
        whole = partial(chat, cacheable=_is_whole)
        self.ask = whole(self.client.chat, alternative=self._elsewhere)
        self.ask_async = whole(self.client.chat_async, alternative=self._elsewhere_async)
        stream = partial(chat, cacheable=is_whole_stream)
        self.stream = stream(self.client.stream, alternative=self._stream_elsewhere)
        self.stream_async = stream(self.client.stream_async, alternative=self._stream_elsewhere_async)
        models = partial(
            policies.wrap,
            "lm_studio.models",
            key=lambda: self.client.base_url,
            cooperative=True,
            breaker_key=endpoint,
        )
        self.models = models(self.client.models)
        self.models_async = models(self.client.models_async)

    def close(self) -> None:
        """Close the connections of threads."""
        for client in self._clients():
            client.close()

    async def aclose(self) -> None:
        """Close the connections of threads and of the running event loop."""
        for client in self._clients():
            await client.aclose()

    def _clients(self) -> list[LMStudioClient]:
        return [self.client, *list(self._others.values())]

    def _key(self, request: ChatRequest) -> str:
        return request_key(request, self.client.base_url, self.client.key_fingerprint)

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
        return self.client, partial(_with_model, name)

    def _other_client(self, base_url: str) -> LMStudioClient:
        client = self._others.get(base_url)
        if client is not None:
            return client
        # A key is for the server that it was given for.
        api_key = self._api_key if is_same_server(base_url, self._config.base_url) else None
        # setdefault() is atomic, so that two threads get the same one.
        return self._others.setdefault(base_url, LMStudioClient(base_url, api_key=api_key))


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
