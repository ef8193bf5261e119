"""
The pools of open connections, of httpcore's kind, with three things of ours.

Their sockets end with the current limits; a connection that the server has closed while it lay idle costs nobody an
attempt; and one that was lost while it was being cleaned up is closed.
"""

# ruff: noqa: D102 - the methods are httpcore's own; the classes say what is different about them

from __future__ import annotations

import contextlib
import ssl
from typing import Any

import httpcore
import httpx

from pixel_llm.lm_studio.limited_sockets import Generation, LimitedAsyncBackend, LimitedBackend, Progress, progress

#: LM Studio closes idle connections after 5 s; ours go first, so that none is used while it is being closed.
KEEPALIVE_SECONDS = 4.0
_KEPT_CONNECTIONS = 20

#: How a connection that the server has closed shows itself to who uses it next.
_HUNG_UP = (httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError)
#: Bodies that are in memory, so that they can be sent again.
_REPEATABLE = (type(httpcore.Request("GET", "http://h").stream), httpx.ByteStream)


class LimitedPool(httpcore.ConnectionPool):
    """
    For threads: sockets under the current limits, no queue, no retries but one. Safe for concurrent use.

    A request that fails on a connection which was used before, with not one byte of an answer, is sent once more,
    at once, on a new connection, within the same limits: the server has closed the old one for being idle, as LM
    Studio does after 5 s. Nobody is told. On a new connection, or after the first byte, such a failure is raised.

    Args:
        ssl_context: For https.
        proxy: Where connections go instead of to the server.
    """

    def __init__(self, ssl_context: ssl.SSLContext | None = None, proxy: httpcore.Proxy | None = None) -> None:
        self._generation = Generation()
        super().__init__(
            ssl_context,
            proxy,
            # How many calls run at once is the bulkhead's business: a queue here would hide calls from the policy.
            max_connections=None,
            max_keepalive_connections=_KEPT_CONNECTIONS,
            keepalive_expiry=KEEPALIVE_SECONDS,
            network_backend=LimitedBackend(httpcore.SyncBackend(), self._generation),
        )

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        state = Progress()
        token = progress.set(state)
        try:
            return super().handle_request(request)
        except _HUNG_UP:
            if not _was_stale(state, request):
                raise
        finally:
            progress.reset(token)
        self._generation.retire()
        return super().handle_request(request)


class LimitedAsyncPool(httpcore.AsyncConnectionPool):
    """The async twin of :class:`LimitedPool`. Belongs to the event loop that first uses it."""

    def __init__(self, ssl_context: ssl.SSLContext | None = None, proxy: httpcore.Proxy | None = None) -> None:
        self._generation = Generation()
        super().__init__(
            ssl_context,
            proxy,
            max_connections=None,
            max_keepalive_connections=_KEPT_CONNECTIONS,
            keepalive_expiry=KEEPALIVE_SECONDS,
            network_backend=LimitedAsyncBackend(httpcore.AnyIOBackend(), self._generation),
        )

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        if len(self._connections) > len(self._requests):
            await self._close_lost()
        state = Progress()
        token = progress.set(state)
        try:
            return await super().handle_async_request(request)
        except _HUNG_UP:
            if not _was_stale(state, request):
                raise
        finally:
            progress.reset(token)
        self._generation.retire()
        return await super().handle_async_request(request)

    async def _close_lost(self) -> None:
        """
        Close the connections that are busy with nothing.

        A cancellation that meets httpcore while it cleans up leaves them open for good.
        """
        used = {id(waiting.connection) for waiting in self._requests}
        busy = [known for known in self._connections if not (known.is_idle() or known.is_closed())]
        lost: list[Any] = [known for known in busy if id(known) not in used]
        if not lost:
            return
        self._connections = [known for known in self._connections if known not in lost]
        for connection in lost:
            with contextlib.suppress(Exception):  # whatever state it is in
                await connection.aclose()


def _was_stale(state: Progress, request: httpcore.Request) -> bool:
    """True if *request* met a connection that had been closed before, so that it may be sent again."""
    return not (state.opened or state.came) and isinstance(request.stream, _REPEATABLE)
