"""The client: chat in, text out, over httpx."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from types import TracebackType
from typing import Any, Self

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.events import Listener
from pixel_llm.lm_studio.chat_stream import EVENT_STREAM, ChatChunk, ChatStream
from pixel_llm.lm_studio.connections import Connections
from pixel_llm.lm_studio.embeddings import EmbeddingReply, embeddings_payload, read_embeddings
from pixel_llm.lm_studio.endpoint import parse_endpoint
from pixel_llm.lm_studio.exchange import LARGEST_REPLY, Exchange, drain, drain_async
from pixel_llm.lm_studio.model_states import (
    LOAD_PATH,
    STATE_PATHS,
    ModelState,
    is_absent,
    is_loaded,
    read_loaded,
    read_model_states,
    read_warmed_up,
)
from pixel_llm.lm_studio.model_watch import ModelWatch
from pixel_llm.lm_studio.payload import ChatRequest, chat_payload
from pixel_llm.lm_studio.proxies import address_of, environment_proxy
from pixel_llm.lm_studio.replies import ChatReply, ModelList, TrialReply, read_chat, read_models, read_trial


class LMStudioClient:
    """
    Talks to one LM Studio server, from threads and event loops alike. Safe for concurrent use, and after fork.

    It never tries again by itself (but see :class:`LimitedPool`), and follows no redirects: a key and a picture go
    nowhere else. Every connect, read and write ends with :func:`current_limits`, so inside a policy's stack the
    deadline holds whatever the server does.

    Connections stay open for 4 s after a call. They close with :meth:`close` and :meth:`aclose`, those
    of an event loop also when ``asyncio.run`` ends it. A closed client may be used again.

    Args:
        base_url: Such as ``http://127.0.0.1:1234/v1``.
        api_key: Sent as a bearer token; None or an empty string sends none.
        timeout: Seconds for each single socket operation where no limits are set.
        trust_env: Whether to read proxies from the environment, see :func:`environment_proxy`. Certificates are those
            of ``$SSL_CERT_FILE`` or ``$SSL_CERT_DIR``, else certifi's, as httpx has it.
        listeners: Told, with :class:`ModelMismatched`, when another model answers a chat than was asked; once for each
            pair of names. ``[policies.tell]`` writes it to the policy's log.

    Raises:
        ValidationError: If an argument, or the environment's proxy, is wrong. All other methods raise
            :class:`ConnectionError`, :class:`TimeoutError` and :class:`APIError` of ``pixel_llm.errors``.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        trust_env: bool = True,
        listeners: Iterable[Listener] = (),
    ) -> None:
        if not isinstance(timeout, int | float) or not (timeout > 0 and math.isfinite(timeout)):
            raise ValidationError(
                f"timeout must be more than 0 seconds (got {timeout!r})",
                error_code=ErrorCode.ERR_VAL_INVALID_RANGE,
                details={"field": "timeout"},
            )
        self._endpoint = parse_endpoint(base_url, api_key)
        proxy = environment_proxy(self._endpoint.base_url) if trust_env else None
        self._connections = Connections(encrypted=self._endpoint.is_encrypted, proxy=proxy)
        self._exchange = Exchange(
            self._endpoint,
            self._connections,
            _headers(self._endpoint.authorization),
            timeout,
            proxy=None if proxy is None else address_of(proxy),
        )
        self._watch = ModelWatch(listeners)
        call = self._exchange.call
        self._chat = call("POST", "/chat/completions")
        self._streamed = call("POST", "/chat/completions", Accept=f"{EVENT_STREAM}, application/json")
        self._models = call("GET", "/models")
        self._embeddings = call("POST", "/embeddings")
        self._states = tuple(call("GET", path, root=True) for path in STATE_PATHS)
        self._load = call("POST", LOAD_PATH, root=True)

    @property
    def base_url(self) -> str:
        """The server's URL without credentials and without a slash at its end."""
        return self._endpoint.base_url

    @property
    def key_fingerprint(self) -> str:
        """Tells API keys apart without giving them away, for :func:`request_key`; empty without a key."""
        return self._endpoint.key_fingerprint

    def chat(self, request: ChatRequest) -> ChatReply:
        """Ask the model."""
        return self._watched(read_chat(self._exchange.ask(self._chat, _encode(request)), request.model))

    async def chat_async(self, request: ChatRequest) -> ChatReply:
        """Ask the model."""
        return self._watched(read_chat(await self._exchange.ask_async(self._chat, _encode(request)), request.model))

    def try_chat(self, request: ChatRequest) -> TrialReply:
        """
        Ask the model only to see whether it answers: a single token need not hold any text.

        Returns:
            Who answered, and whether there were words.
        """
        return read_trial(self._exchange.ask(self._chat, _encode(request)), request.model)

    async def try_chat_async(self, request: ChatRequest) -> TrialReply:
        """The async twin of :meth:`try_chat`."""
        return read_trial(await self._exchange.ask_async(self._chat, _encode(request)), request.model)

    def stream(self, request: ChatRequest) -> Iterator[ChatChunk]:
        """
        Ask the model, and give what it says piece by piece.

        The first piece is the first content; the last one closes the stream, see :class:`ChatChunk`. A stream that
        does not end properly raises. To leave it early, close the generator: the server is told by the end of the
        connection.
        """
        with self._exchange.opened(self._streamed, _encode(request, stream=True)) as answer:
            stream = ChatStream(answer.head, request.model, longest=LARGEST_REPLY)
            for part in answer.parts:
                for chunk in stream.feed(part):
                    answer.given = True
                    yield chunk
                if stream.done:
                    break
            yield from stream.finish()
            self._watch.compare(request.model, stream.model)
            if stream.done:
                drain(answer.parts)

    async def stream_async(self, request: ChatRequest) -> AsyncIterator[ChatChunk]:
        """The async twin of :meth:`stream`."""
        async with self._exchange.opened_async(self._streamed, _encode(request, stream=True)) as answer:
            stream = ChatStream(answer.head, request.model, longest=LARGEST_REPLY)
            async for part in answer.parts:
                for chunk in stream.feed(part):
                    answer.given = True
                    yield chunk
                if stream.done:
                    break
            for chunk in stream.finish():
                yield chunk
            self._watch.compare(request.model, stream.model)
            if stream.done:
                await drain_async(answer.parts)

    def models(self) -> ModelList:
        """Ask which models there are."""
        return read_models(self._exchange.ask(self._models))

    async def models_async(self) -> ModelList:
        """Ask which models there are."""
        return read_models(await self._exchange.ask_async(self._models))

    def model_states(self) -> tuple[ModelState, ...] | None:
        """
        Ask for LM Studio's own list, which tells what is loaded.

        Returns:
            The models that are downloaded, or None from servers that have no such list, such as llama.cpp's.
        """
        for call in self._states:
            reply = self._exchange.ask(call)
            if not is_absent(reply):
                return read_model_states(reply)
        return None

    async def model_states_async(self) -> tuple[ModelState, ...] | None:
        """The async twin of :meth:`model_states`."""
        for call in self._states:
            reply = await self._exchange.ask_async(call)
            if not is_absent(reply):
                return read_model_states(reply)
        return None

    def load(self, model: str) -> None:
        """
        Have the server load *model*, and wait until it has; nothing is done if it is loaded already.

        Where there is no request for that, before LM Studio 0.4 and elsewhere, a chat of one token loads the model.
        """
        states = self.model_states()
        if states is not None and is_loaded(model, states):
            return  # LM Studio would load it a second time
        reply = self._exchange.ask(self._load, _dump({"model": model}))
        if not is_absent(reply):
            read_loaded(reply, model)
        else:
            read_warmed_up(self._exchange.ask(self._chat, _encode(_one_token(model))), model)

    async def load_async(self, model: str) -> None:
        """The async twin of :meth:`load`."""
        states = await self.model_states_async()
        if states is not None and is_loaded(model, states):
            return
        reply = await self._exchange.ask_async(self._load, _dump({"model": model}))
        if not is_absent(reply):
            read_loaded(reply, model)
        else:
            read_warmed_up(await self._exchange.ask_async(self._chat, _encode(_one_token(model))), model)

    def embeddings(self, texts: Sequence[str], model: str) -> EmbeddingReply:
        """
        Ask *model* for the vectors of *texts*.

        Raises:
            ValidationError: If *texts* is no list of texts, or has none.
        """
        content = _dump(embeddings_payload(texts, model))
        return read_embeddings(self._exchange.ask(self._embeddings, content), model, len(texts))

    async def embeddings_async(self, texts: Sequence[str], model: str) -> EmbeddingReply:
        """The async twin of :meth:`embeddings`."""
        content = _dump(embeddings_payload(texts, model))
        return read_embeddings(await self._exchange.ask_async(self._embeddings, content), model, len(texts))

    def close(self) -> None:
        """Close the idle connections of threads. Calls under way may fail with ERR_CONN_LOST."""
        self._connections.of_this_process.close()

    async def aclose(self) -> None:
        """Close the idle connections of threads and of the running event loop."""
        await self._connections.of_this_process.aclose()

    def _watched(self, reply: ChatReply) -> ChatReply:
        self._watch.compare(reply.requested_model, reply.model)
        return reply

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"LMStudioClient({self.base_url!r})"


def _encode(request: ChatRequest, *, stream: bool = False) -> bytes:
    payload = chat_payload(request)
    if stream:
        payload |= {"stream": True, "stream_options": {"include_usage": True}}
    return _dump(payload)


def _dump(payload: Mapping[str, Any]) -> bytes:
    return json.dumps(payload, separators=(",", ":")).encode()


def _one_token(model: str) -> ChatRequest:
    return ChatRequest(model=model, prompt="Say yes.", max_tokens=1)


def _headers(authorization: str | None) -> Mapping[str, str]:
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": _user_agent(),
    }
    return headers if authorization is None else {**headers, "Authorization": authorization}


@cache
def _user_agent() -> str:
    try:
        return f"pixel-llm/{metadata.version('pixel-llm')}"
    except metadata.PackageNotFoundError:
        return "pixel-llm"
