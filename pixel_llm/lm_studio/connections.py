"""The open connections: one pool for all threads, and one for each event loop, in each process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import threading
import weakref
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from pixel_llm.errors import ValidationError
from pixel_llm.lm_studio.pools import LimitedAsyncPool, LimitedPool
from pixel_llm.lm_studio.transport import LimitedAsyncTransport, LimitedTransport


@dataclass(frozen=True, slots=True)
class _LoopTransport:
    """The transport of one event loop, what closes it with the loop, and what closes it when it is forgotten."""

    transport: LimitedAsyncTransport
    closer: AsyncGenerator[None, None]
    finalizer: weakref.finalize[Any, Any]


class Connections:
    """
    Opens transports, with their pools, when they are first needed. Safe for concurrent use.

    A forked child opens its own: an inherited connection belongs to the parent, and the locks of an
    inherited pool may be held by threads that do not exist in the child.
    """

    def __init__(self, *, encrypted: bool, proxy: httpcore.Proxy | None = None) -> None:
        # Loading the system's certificates takes about 20 ms; plain http never looks at them.
        self._verify: ssl.SSLContext | bool = _certificates() if encrypted else False
        self._proxy = proxy
        self._by_process: dict[int, _ProcessConnections] = {}

    @property
    def of_this_process(self) -> _ProcessConnections:
        """The connections of this process. Those of a parent are kept, untouched, until the child ends."""
        mine = self._by_process.get(os.getpid())
        # setdefault() is atomic, so no lock is needed that a fork could leave locked.
        return mine or self._by_process.setdefault(os.getpid(), _ProcessConnections(self._verify, self._proxy))


def _certificates() -> ssl.SSLContext:
    """The system's certificates, or those of $SSL_CERT_FILE or $SSL_CERT_DIR, as httpx has it."""
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # ssl's own among them
        said = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), None)
        where = f"the certificates in {os.environ[said]}, which ${said} names," if said else "the system's certificates"
        reason = "they are none" if isinstance(error, ssl.SSLError) else error.strerror
        raise ValidationError(f"{where} can't be read: {reason}", details={"field": said or "certificates"}) from error


class _ProcessConnections:
    def __init__(self, verify: ssl.SSLContext | bool, proxy: httpcore.Proxy | None) -> None:
        self._verify, self._proxy = verify, proxy
        self._lock = threading.Lock()
        self._transport: LimitedTransport | None = None
        self._loop_transports: dict[asyncio.AbstractEventLoop, _LoopTransport] = {}

    def transport(self) -> LimitedTransport:
        """The transport for threads."""
        if self._transport is None:
            with self._lock:
                if self._transport is None:
                    transport = LimitedTransport(self._verify, self._proxy)
                    # Who forgets to close is not punished with unclosed sockets.
                    weakref.finalize(self, _close_in_its_process, os.getpid(), transport)
                    self._transport = transport
        return self._transport

    def pool(self) -> LimitedPool:
        """The pool for threads."""
        return (self._transport or self.transport()).pool

    async def loop_transport(self) -> LimitedAsyncTransport:
        """The transport of the running event loop; it closes when the loop shuts down."""
        return (await self._of_this_loop()).transport

    async def loop_pool(self) -> LimitedAsyncPool:
        """The pool of the running event loop; it closes when the loop shuts down."""
        return (await self._of_this_loop()).transport.pool

    async def _of_this_loop(self) -> _LoopTransport:
        loop = asyncio.get_running_loop()
        known = self._loop_transports.get(loop)
        if known is None:
            transport = LimitedAsyncTransport(self._verify, self._proxy)
            closer = _close_with_loop(transport, self._loop_transports, loop)
            await anext(closer)
            # The finalizer also keeps the closer alive: a collected one could not be awaited any more.
            finalizer = weakref.finalize(self, _close_in_its_loop, loop, closer)
            finalizer.atexit = False
            known = _LoopTransport(transport, closer, finalizer)
            with self._lock:
                for closed in [other for other in self._loop_transports if other.is_closed()]:
                    self._loop_transports.pop(closed).finalizer.detach()
                self._loop_transports[loop] = known
        return known

    def close(self) -> None:
        """Close the connections of threads."""
        if self._transport is not None:
            self._transport.close()

    async def aclose(self) -> None:
        """Close the connections of threads and of the running event loop."""
        self.close()
        known = self._loop_transports.get(asyncio.get_running_loop())
        if known is not None:
            await known.closer.aclose()


async def _close_with_loop(
    transport: LimitedAsyncTransport,
    registry: dict[asyncio.AbstractEventLoop, _LoopTransport],
    loop: asyncio.AbstractEventLoop,
) -> AsyncGenerator[None, None]:
    # An event loop tells nobody that it ends, but asyncio.run() closes the asynchronous generators that
    # are still open. So one is left open here, to close the connections while they still can be closed.
    try:
        yield
    finally:
        known = registry.pop(loop, None)
        if known is not None:
            known.finalizer.detach()
        await transport.aclose()


def _close_in_its_loop(loop: asyncio.AbstractEventLoop, closer: AsyncGenerator[None, None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed, and its connections with it
        loop.call_soon_threadsafe(lambda: loop.create_task(closer.aclose()))


def _close_in_its_process(process: int, transport: LimitedTransport) -> None:
    if os.getpid() == process:
        transport.close()
