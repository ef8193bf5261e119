"""The client: chat in, text out, over httpx."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from types import TracebackType
from typing import Any, Self

import httpx

from pixel_llm.errors import APIError, ErrorCode, ValidationError
from pixel_llm.lm_studio.connections import Connections
from pixel_llm.lm_studio.endpoint import parse_endpoint
from pixel_llm.lm_studio.payload import ChatRequest, chat_payload
from pixel_llm.lm_studio.replies import ChatReply, ModelList, RawReply, read_chat, read_models
from pixel_llm.lm_studio.translation import TRANSLATED, translate
from pixel_llm.resilience.limits import current_limits

#: A longer answer is no caption. Bytes, after decompression.
LARGEST_REPLY = 16 * 1024 * 1024


class LMStudioClient:
    """
    Talks to one LM Studio server, from threads and event loops alike. Safe for concurrent use, and after fork.

    It never tries again by itself, follows no redirects, and reads neither proxies nor ``.netrc`` from
    the environment. Every connect, read and write ends with :func:`current_limits`, so inside a policy's
    stack the deadline holds whatever the server does.

    Connections stay open for 4 s after a call. They close with :meth:`close` and :meth:`aclose`, those
    of an event loop also when ``asyncio.run`` ends it. A closed client may be used again.

    Args:
        base_url: Such as ``http://127.0.0.1:1234/v1``.
        api_key: Sent as a bearer token; None or an empty string sends none.
        timeout: Seconds for each single socket operation where no limits are set.

    Raises:
        ValidationError: If an argument is wrong. All other methods raise :class:`ConnectionError`,
            :class:`TimeoutError` and :class:`APIError` of ``pixel_llm.errors``.
    """

    def __init__(self, base_url: str, *, api_key: str | None = None, timeout: float = 60.0) -> None:
        if not (timeout > 0 and math.isfinite(timeout)):
            raise ValidationError(
                f"timeout must be more than 0 seconds (got {timeout})",
                error_code=ErrorCode.ERR_VAL_INVALID_RANGE,
                details={"field": "timeout"},
            )
        self._endpoint = parse_endpoint(base_url, api_key)
        self._timeout = httpx.Timeout(timeout)
        self._headers = _headers(self._endpoint.authorization)
        self._connections = Connections(encrypted=self._endpoint.is_encrypted)

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
        return read_chat(self._exchange("POST", "/chat/completions", _encode(request)), request.model)

    async def chat_async(self, request: ChatRequest) -> ChatReply:
        """Ask the model."""
        return read_chat(await self._exchange_async("POST", "/chat/completions", _encode(request)), request.model)

    def models(self) -> ModelList:
        """Ask which models there are."""
        return read_models(self._exchange("GET", "/models"))

    async def models_async(self) -> ModelList:
        """Ask which models there are."""
        return read_models(await self._exchange_async("GET", "/models"))

    def close(self) -> None:
        """Close the idle connections of threads. Calls under way may fail with ERR_CONN_LOST."""
        self._connections.of_this_process.close()

    async def aclose(self) -> None:
        """Close the idle connections of threads and of the running event loop."""
        await self._connections.of_this_process.aclose()

    def _exchange(self, method: str, path: str, content: bytes | None = None) -> RawReply:
        client = self._connections.of_this_process.client()
        body = bytearray()
        try:
            response = client.send(self._request(client, method, path, content), stream=True)
            try:
                for part in response.iter_bytes():
                    self._append(body, part, response)
            finally:
                response.close()
        except TRANSLATED as error:
            raise translate(error, self._endpoint.address) from error
        return self._raw_reply(response, body)

    async def _exchange_async(self, method: str, path: str, content: bytes | None = None) -> RawReply:
        client = await self._connections.of_this_process.loop_client()
        body = bytearray()
        try:
            response = await client.send(self._request(client, method, path, content), stream=True)
            try:
                async for part in response.aiter_bytes():
                    self._append(body, part, response)
            finally:
                await response.aclose()
        except TRANSLATED as error:
            raise translate(error, self._endpoint.address) from error
        return self._raw_reply(response, body)

    def _request(
        self, client: httpx.Client | httpx.AsyncClient, method: str, path: str, content: bytes | None
    ) -> httpx.Request:
        # A timeout of httpx's own would cut short an attempt to which the policy gives more time.
        timeout = self._timeout if current_limits().ends is None else None
        url = self._endpoint.base_url + path
        return client.build_request(method, url, content=content, headers=self._headers, timeout=timeout)

    def _append(self, body: bytearray, part: bytes, response: httpx.Response) -> None:
        body += part
        if len(body) > LARGEST_REPLY:
            raise APIError(
                f"the answer of {self._endpoint.address} is longer than {LARGEST_REPLY} bytes",
                error_code=ErrorCode.ERR_API_INVALID_RESPONSE,
                details={"url": self._endpoint.address, "status": response.status_code},
            )

    def _raw_reply(self, response: httpx.Response, body: bytearray) -> RawReply:
        return RawReply(
            response.status_code, response.headers, bytes(body), self._endpoint.address, self._endpoint.secret
        )

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


def _encode(request: ChatRequest) -> bytes:
    payload: dict[str, Any] = chat_payload(request)
    return json.dumps(payload, separators=(",", ":")).encode()


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
