"""
One request, one answer, over the pools: what the client's methods have in common.

httpcore is used directly. httpx's client builds URL, headers and cookies anew for each request, which costs more
than all that a policy's layers do.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from pixel_llm.errors import APIError, ErrorCode, PixelLMError
from pixel_llm.lm_studio.asked import Asked
from pixel_llm.lm_studio.connections import Connections
from pixel_llm.lm_studio.endpoint import Endpoint
from pixel_llm.lm_studio.replies import RawReply, clean
from pixel_llm.lm_studio.translation import TRANSLATED, translate
from pixel_llm.request import current_request_id
from pixel_llm.resilience.clock import SYSTEM_CLOCK
from pixel_llm.resilience.limits import Limits, current_limits, publish, take_back
from pixel_llm.resilience.tracing.live import Sent, traced_request

#: A longer answer is no caption. Bytes, after decompression.
LARGEST_REPLY = 16 * 1024 * 1024
#: What is undone although it was not asked for.
_UNDONE = (["gzip"], ["deflate"])
#: How long to wait, in seconds, for HTTP's end of a stream whose last event has come: then its connection can be kept.
_LAST_WORDS = 0.05


@dataclass(frozen=True, slots=True)
class Call:
    """A request without its body, written down once, and what tells of it. Immutable."""

    method: bytes
    url: httpcore.URL
    headers: tuple[tuple[bytes, bytes], ...]
    verb: str
    address: str


class Answer:
    """
    An answer whose headers have come, and the *parts* of its body, for either world.

    Whoever gives on what has come sets *given*: silence means something else then.
    """

    __slots__ = ("given", "head", "parts")

    def __init__(self, head: RawReply, parts: Any) -> None:
        self.head, self.parts = head, parts
        self.given = False


class Exchange:
    """
    Sends requests to one server. Safe for concurrent use.

    Args:
        endpoint: The server.
        connections: Its pools.
        headers: Those of every request.
        timeout: Seconds for each single socket operation where no limits are set.
        proxy: The address of the proxy that leads there, for messages.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        connections: Connections,
        headers: Mapping[str, str],
        timeout: float,
        *,
        proxy: str | None = None,
    ) -> None:
        self._proxy = proxy
        self._endpoint = endpoint
        self._connections = connections
        self._headers = dict(headers)
        self._timeout = {"timeout": httpx.Timeout(timeout).as_dict()}

    def call(self, method: str, path: str, *, root: bool = False, **headers: str) -> Call:
        """A request to *path*, below the base URL or, with *root*, beside its ``/v1``."""
        base = self._endpoint.root_url if root else self._endpoint.base_url
        request = httpx.Request(method, base + path, headers=self._headers | headers)
        url = request.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        fixed = tuple(pair for pair in request.headers.raw if pair[0].lower() != b"content-length")
        return Call(method.encode(), target, fixed, method, base + path)

    def ask(self, call: Call, content: bytes | None = None) -> RawReply:
        """Send a request, and read the whole answer."""
        body = bytearray()
        with self.opened(call, content) as answer:
            for part in answer.parts:
                body += part
                if len(body) > LARGEST_REPLY:
                    raise self._too_long(answer.head)
        return _with_body(answer.head, body)

    async def ask_async(self, call: Call, content: bytes | None = None) -> RawReply:
        """Send a request, and read the whole answer."""
        body = bytearray()
        async with self.opened_async(call, content) as answer:
            async for part in answer.parts:
                body += part
                if len(body) > LARGEST_REPLY:
                    raise self._too_long(answer.head)
        return _with_body(answer.head, body)

    @contextlib.contextmanager
    def opened(self, call: Call, content: bytes | None = None) -> Iterator[Answer]:
        """Send a request; gives the answer, whose body is still to come, and lets go of it at the end."""
        pool = self._connections.of_this_process.pool()
        answer: Answer | None = None
        with traced_request(call.verb, call.address) as sent:
            try:
                response = pool.handle_request(self._request(call, content, sent))
                try:
                    head = self._head(response, sent, content)
                    answer = Answer(head, _decoded(head, response.stream))
                    yield answer
                finally:
                    response.close()
            except TRANSLATED as error:
                raise self._translated(error, answer) from error

    @contextlib.asynccontextmanager
    async def opened_async(self, call: Call, content: bytes | None = None) -> AsyncIterator[Answer]:
        """Send a request; gives the answer, whose body is still to come, and lets go of it at the end."""
        pool = await self._connections.of_this_process.loop_pool()
        answer: Answer | None = None
        with traced_request(call.verb, call.address) as sent:
            try:
                response = await pool.handle_async_request(self._request(call, content, sent))
                try:
                    head = self._head(response, sent, content)
                    answer = Answer(head, _decoded_async(head, response.stream))
                    yield answer
                finally:
                    await response.aclose()
            except TRANSLATED as error:
                raise self._translated(error, answer) from error

    def _request(self, call: Call, content: bytes | None, sent: Sent) -> httpcore.Request:
        headers = [*call.headers, *sent.headers()]
        if content is not None:
            headers.append((b"Content-Length", b"%d" % len(content)))
        if (request_id := current_request_id()) is not None:
            headers.append((b"X-Request-ID", request_id.encode("ascii")))
        # A timeout of httpx's kind would cut short an attempt to which the policy gives more time.
        extensions = self._timeout if current_limits().ends is None else None
        return httpcore.Request(call.method, call.url, headers=headers, content=content, extensions=extensions)

    def _head(self, response: httpcore.Response, sent: Sent, content: bytes | None) -> RawReply:
        sent.answered(response.status)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        return RawReply(response.status, headers, b"", self._endpoint.address, self._endpoint.secrets, Asked(content))

    def _translated(self, error: Exception, answer: Answer | None) -> PixelLMError:
        given = answer is not None and answer.given
        return translate(error, self._endpoint.address, in_stream=given, proxy=self._proxy)

    def _too_long(self, head: RawReply) -> APIError:
        return APIError(
            f"the answer of {head.address} is longer than {LARGEST_REPLY} bytes",
            error_code=ErrorCode.ERR_API_INVALID_RESPONSE,
            details={"url": head.address, "status": head.status},
        )


def drain(parts: Iterator[bytes]) -> None:
    """Read what comes after the last event of a stream, for a moment: a connection at its end can be used again."""
    token = publish(_last_words())
    try:
        for _ in parts:
            pass
    except TRANSLATED:
        return  # the connection is closed instead
    finally:
        take_back(token)


async def drain_async(parts: AsyncIterator[bytes]) -> None:
    """The async twin of :func:`drain`."""
    token = publish(_last_words())
    try:
        async for _ in parts:
            pass
    except TRANSLATED:
        return
    finally:
        take_back(token)


def _last_words() -> Limits:
    remaining = current_limits().remaining()
    wait = min(_LAST_WORDS, math.inf if remaining is None else remaining)
    return Limits(SYSTEM_CLOCK, attempt_ends=SYSTEM_CLOCK.monotonic() + wait)


def _with_body(head: RawReply, body: bytearray) -> RawReply:
    return RawReply(head.status, head.headers, bytes(body), head.address, head.secrets, head.asked)


class _Encoded(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that was compressed although none was asked for, in httpx's shape, which can undo that."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)


def _is_compressed(head: RawReply) -> bool:
    """
    Whether the body is, in a way that is undone piece by piece.

    A layer of deflate gives at most a thousand bytes for one, so that the bound on the whole holds. A second layer, or
    another algorithm, would be undone whole before anybody could see how much it gives.
    """
    named = [name.strip().lower() for name in head.headers.get("content-encoding", "").split(",")]
    encodings = [name for name in named if name not in ("", "identity")]
    if encodings and encodings not in _UNDONE:
        told = clean(", ".join(encodings), 100)
        raise APIError(
            f"the answer of {head.address} is compressed as {told}, though no compression was asked for: only gzip or "
            "deflate, once, is undone",
            error_code=ErrorCode.ERR_API_INVALID_RESPONSE,
            details={"url": head.address, "status": head.status},
        )
    return bool(encodings)


def _decoded(head: RawReply, stream: Any) -> Any:
    if not _is_compressed(head):
        return iter(stream)
    return httpx.Response(head.status, headers=dict(head.headers), stream=_Encoded(stream)).iter_bytes()


def _decoded_async(head: RawReply, stream: Any) -> Any:
    if not _is_compressed(head):
        return aiter(stream)
    return httpx.Response(head.status, headers=dict(head.headers), stream=_Encoded(stream)).aiter_bytes()
