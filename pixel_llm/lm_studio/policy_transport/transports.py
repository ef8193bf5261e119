"""
A target's stack under any httpx client.

The client above sends requests and gets responses as ever; what happens in between is the policy's.
Below are our own transports, whose sockets keep the deadline, or one of the user's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from pixel_llm.errors import PixelLMError
from pixel_llm.lm_studio.policy_transport.bodies import LiveAsyncBody, LiveBody
from pixel_llm.lm_studio.policy_transport.elsewhere import elsewhere
from pixel_llm.lm_studio.policy_transport.families import errors_of, family_of
from pixel_llm.lm_studio.policy_transport.own import OwnAsyncTransport, OwnTransport
from pixel_llm.lm_studio.policy_transport.reading import read, read_async
from pixel_llm.lm_studio.policy_transport.reply import HTTPReply
from pixel_llm.lm_studio.policy_transport.sending import held_body, is_bearable
from pixel_llm.lm_studio.policy_transport.shared import MakeResponse, UnderPolicy
from pixel_llm.runtime import Policies


class PolicyTransport(UnderPolicy, httpx.BaseTransport):
    """
    Puts the stack of a target under an ``httpx.Client``. Safe for concurrent use.

    ::

        http_client = httpx.Client(transport=PolicyTransport(policies, "lm_studio.chat"))
        client = openai.OpenAI(base_url=…, api_key=…, max_retries=0, http_client=http_client)

    A response with an error status is a failure to the stack, with the code that fits. When all is used
    up, the client gets the last response, as it would without a policy. Where there is none it gets the
    exception that httpx would raise, or a plain ``TransportError`` if the stack refused; the cause of
    either is the error of ours (see :func:`error_behind`).

    An attempt ends when the answer is there: that of an event stream with its first piece, that of another
    body without a known end with its headers. They stream on until the deadline; the wait for each piece is
    bounded by the target's ``timeout``.

    Each attempt has the header ``X-Request-ID`` with the id of the request that is being served, if one is
    (see :class:`pixel_llm.LogContext`) and the client has set no such header.

    Args:
        policies: What ``load_policies()`` gives.
        target: Whose stack.
        wrapped: The transport below. The default keeps every socket operation inside the time that is
            left, takes no proxies from the environment, and works in threads and after fork. Another
            one is given the time that is left as timeouts; with a ``timeout`` in the policy, each of its
            attempts runs in a worker thread.
        make_response: Makes a response from the request and the value that a fallback served. Needed
            where the fallback serves a ``default_value`` or ``none``.
        error_bodies: Whether a success counts as a failure whose JSON is ``{"error": …}`` or is cut off, or
            that is an event stream without events or with an error as its first one. LM Studio answers so.

    Raises:
        PolicyError: If the policy has no such target.
        ValidationError: If the target can't serve HTTP, or *wrapped* retries by itself.
    """

    _handler = "handle_request"
    _twin = "AsyncPolicyTransport"
    _stream_base = "SyncByteStream"
    _live = LiveBody

    def __init__(
        self,
        policies: Policies,
        target: str,
        wrapped: Any = None,
        *,
        make_response: MakeResponse | None = None,
        error_bodies: bool = True,
    ) -> None:
        inner = OwnTransport() if wrapped is None else wrapped

        def attempt(request: Any) -> HTTPReply:
            return self._attempt(request)

        def alternative(kind: str, place: str) -> Callable[[Any], HTTPReply]:
            return lambda request: self._attempt(elsewhere(request, kind, place))

        super().__init__(policies, target, inner, attempt, alternative, make_response, error_bodies)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send *request* through the stack."""
        self._watch(request)
        if held_body(request) is None and is_bearable(request):
            request.read()
        prepared = self._prepare(request)
        response: httpx.Response
        try:
            outcome = self._guarded.outcome(prepared)
        except PixelLMError as error:
            response = self._failed(error, request)
        else:
            response = self._answer(outcome, request)
        return response

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Refuse: async clients need the twin."""
        raise self._wrong(f"an async client needs {self._twin}")

    def close(self) -> None:
        """Close the connections of the transport below."""
        self._inner.close()

    def _attempt(self, prepared: Any) -> HTTPReply:
        request, pace = self._begin(prepared)
        try:
            reply = read(self._inner.handle_request(request), pace, error_bodies=self._judges(prepared))
        except errors_of(family_of(request) or httpx) as error:
            raise self._translated(error, prepared) from error
        return self._judged(reply, prepared)


class AsyncPolicyTransport(UnderPolicy, httpx.AsyncBaseTransport):
    """
    The async twin of :class:`PolicyTransport`, for ``httpx.AsyncClient`` on asyncio.

    The default transport below has its own connections for each event loop.
    """

    _handler = "handle_async_request"
    _twin = "PolicyTransport"
    _stream_base = "AsyncByteStream"
    _live = LiveAsyncBody

    def __init__(
        self,
        policies: Policies,
        target: str,
        wrapped: Any = None,
        *,
        make_response: MakeResponse | None = None,
        error_bodies: bool = True,
    ) -> None:
        inner = OwnAsyncTransport() if wrapped is None else wrapped

        async def attempt(request: Any) -> HTTPReply:
            return await self._attempt(request)

        def alternative(kind: str, place: str) -> Callable[[Any], Awaitable[HTTPReply]]:
            async def attempt_elsewhere(request: Any) -> HTTPReply:
                return await self._attempt(elsewhere(request, kind, place))

            return attempt_elsewhere

        super().__init__(policies, target, inner, attempt, alternative, make_response, error_bodies)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send *request* through the stack."""
        self._watch(request)
        if held_body(request) is None and is_bearable(request):
            await request.aread()
        prepared = self._prepare(request)
        response: httpx.Response
        try:
            outcome = await self._guarded.outcome(prepared)
        except PixelLMError as error:
            response = self._failed(error, request)
        else:
            response = self._answer(outcome, request)
        return response

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Refuse: sync clients need the twin."""
        raise self._wrong(f"a sync client needs {self._twin}")

    async def aclose(self) -> None:
        """Close the connections of the transport below."""
        await self._inner.aclose()

    async def _attempt(self, prepared: Any) -> HTTPReply:
        request, pace = self._begin(prepared)
        try:
            reply = await read_async(
                await self._inner.handle_async_request(request), pace, error_bodies=self._judges(prepared)
            )
        except errors_of(family_of(request) or httpx) as error:
            raise self._translated(error, prepared) from error
        return self._judged(reply, prepared)
