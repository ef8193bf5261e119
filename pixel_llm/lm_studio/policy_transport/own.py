"""What lies below a policy's transport by default: our sockets, in threads, event loops and forked children alike."""

# ruff: noqa: D102 - the methods are httpx's own

from __future__ import annotations

from functools import cached_property
from typing import Any

import httpx

from pixel_llm.lm_studio.connections import Connections


class _Own:
    """The connections, of both kinds; those with TLS are made when they are first needed."""

    def __init__(self) -> None:
        self._plain = Connections(encrypted=False)

    @cached_property
    def _encrypted(self) -> Connections:
        return Connections(encrypted=True)

    def _for(self, request: Any) -> Any:
        return (self._encrypted if request.url.scheme == "https" else self._plain).of_this_process

    def _all(self) -> list[Any]:
        encrypted = self.__dict__.get("_encrypted")
        return [known.of_this_process for known in (self._plain, encrypted) if known is not None]


class OwnTransport(_Own, httpx.BaseTransport):
    """For threads. Safe for concurrent use and after fork; a closed one may be used again."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response: httpx.Response = self._for(request).transport().handle_request(request)
        return response

    def close(self) -> None:
        for connections in self._all():
            connections.close()


class OwnAsyncTransport(_Own, httpx.AsyncBaseTransport):
    """For event loops, each of which gets its own connections."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        transport = await self._for(request).loop_transport()
        response: httpx.Response = await transport.handle_async_request(request)
        return response

    async def aclose(self) -> None:
        for connections in self._all():
            await connections.aclose()
