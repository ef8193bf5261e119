"""
httpx transports that keep every socket operation inside the time that is left.

A timeout for each read is not enough: a server that drips one byte a second
answers every read in time and never comes to an end. So connecting, the TLS
handshake and every read and write, those of the headers included, look up
:func:`pixel_llm.resilience.limits.current_limits` and end at its moment.
"""

# ruff: noqa: D102 - the methods are httpcore's own; the classes say what is different about them

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpcore
import httpx

from pixel_llm.resilience.clock import Clock
from pixel_llm.resilience.limits import current_limits

T = TypeVar("T")

#: LM Studio closes idle connections after 5 s; ours go first, so that none is used while it is being closed.
KEEPALIVE_SECONDS = 4.0
#: How many calls run at once is the bulkhead's business: a queue in the pool would hide calls from the policy.
_POOL_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=KEEPALIVE_SECONDS)
#: The operating system takes no endless timeouts; who waits longer than a day waits again.
_LONGEST_WAIT = 86_400.0
#: An event loop may fire a timer up to its clock's resolution early. This much later, the moment has surely passed.
_GRAIN = 0.001
_WRITE_SIZE = 65_536


@dataclass(frozen=True, slots=True)
class Window:
    """The time that one socket operation may take: until the moment *ends* on *clock*, in seconds."""

    clock: Clock
    ends: float

    @classmethod
    def open(cls, timeout: float | None, *, ends: float = math.inf, connecting: bool = False) -> Window:
        """Take the nearest of the current limits, httpx's own *timeout* (seconds) and the moment *ends*."""
        limits = current_limits()
        now = limits.clock.monotonic()
        if limits.ends is not None:
            ends = min(ends, limits.ends)
        if timeout is not None:
            ends = min(ends, now + timeout)
        if connecting and limits.connect is not None:
            ends = min(ends, now + limits.connect)
        return cls(limits.clock, ends)

    def rest(self) -> float:
        """Seconds left; 0 or less when it is over."""
        return min(self.ends - self.clock.monotonic(), _LONGEST_WAIT)

    def is_over(self) -> bool:
        """True once nothing more may be waited for."""
        return self.rest() <= 0

    def patience(self) -> float:
        """Seconds to block in the operating system before looking at the clock again."""
        return self.clock.patience(self.rest())


class LimitedStream(httpcore.NetworkStream):
    """A connection whose reads, writes and TLS handshake end with the current limits."""

    def __init__(self, inner: httpcore.NetworkStream, connect_ends: float = math.inf) -> None:
        self._inner = inner
        self._connect_ends = connect_ends

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        window = Window.open(timeout)
        while not window.is_over():
            try:
                return self._inner.read(max_bytes, window.patience())
            except httpcore.ReadTimeout:
                continue  # out of patience, not out of time, if a test's clock runs the show
        raise httpcore.ReadTimeout("the read took too long")

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # httpcore's own write gives every piece the whole timeout, and after a timeout nobody
        # knows how many pieces were sent. So the pieces are sent here.
        window = Window.open(timeout)
        sock: socket.socket = self._inner.get_extra_info("socket")
        rest = memoryview(buffer)
        while rest:
            if window.is_over():
                raise httpcore.WriteTimeout("the write took too long")
            try:
                sock.settimeout(window.patience())
                rest = rest[sock.send(rest[:_WRITE_SIZE]) :]
            except TimeoutError:
                continue  # nothing of this piece was taken; TLS wants the very same bytes again
            except OSError as error:
                raise httpcore.WriteError(error) from error

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        window = Window.open(timeout, ends=self._connect_ends)
        if window.is_over():
            self.close()
            raise httpcore.ConnectTimeout("no time left for the TLS handshake")
        return LimitedStream(self._inner.start_tls(ssl_context, server_hostname, window.rest()))

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class LimitedBackend(httpcore.NetworkBackend):
    """Opens connections within the current limits. Looking up a host name is the one thing it cannot cut short."""

    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        # socket.create_connection() gives each address of a name the whole timeout: they share it here.
        window = Window.open(timeout, connecting=True)
        failure: Exception = httpcore.ConnectTimeout("no time left to connect")
        for address in _look_up(host, port):
            if window.is_over():
                break
            try:
                stream = self._inner.connect_tcp(address, port, window.rest(), local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return LimitedStream(stream, window.ends)
        raise failure


def _look_up(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: a label of more than 63 letters
        raise httpcore.ConnectError(error) from error
    return [str(address[0]) for *_, address in found]


async def _within(window: Window, operation: Callable[[float], Awaitable[T]], too_late: type[Exception]) -> T:
    """Await *operation(timeout)*, or raise *too_late* when *window* is over."""
    if window.is_over():
        raise too_late("no time left")
    if window.clock.patience(_LONGEST_WAIT) == _LONGEST_WAIT:
        return await operation(window.rest() + _GRAIN)
    # A clock moved by a test: look at it now and then. The operation runs beside, because a write
    # that is cancelled and started again would send its bytes twice.
    task = asyncio.ensure_future(operation(_LONGEST_WAIT))
    try:
        while not task.done():
            if window.is_over():
                raise too_late("it took too long")
            await asyncio.wait({task}, timeout=window.patience())
        return await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


class LimitedAsyncStream(httpcore.AsyncNetworkStream):
    """The async twin of :class:`LimitedStream`."""

    def __init__(self, inner: httpcore.AsyncNetworkStream, connect_ends: float = math.inf) -> None:
        self._inner = inner
        self._connect_ends = connect_ends

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        window = Window.open(timeout)
        return await _within(window, lambda wait: self._inner.read(max_bytes, wait), httpcore.ReadTimeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        window = Window.open(timeout)
        await _within(window, lambda wait: self._inner.write(buffer, wait), httpcore.WriteTimeout)

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        window = Window.open(timeout, ends=self._connect_ends)
        try:
            inner = await _within(
                window, lambda wait: self._inner.start_tls(ssl_context, server_hostname, wait), httpcore.ConnectTimeout
            )
        except BaseException:
            await self._inner.aclose()
            raise
        return LimitedAsyncStream(inner)

    async def aclose(self) -> None:
        await self._inner.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class LimitedAsyncBackend(httpcore.AsyncNetworkBackend):
    """The async twin of :class:`LimitedBackend`; it cuts name look-ups short as well."""

    def __init__(self, inner: httpcore.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        window = Window.open(timeout, connecting=True)
        try:
            stream = await _within(
                window,
                lambda wait: self._inner.connect_tcp(host, port, wait, local_address, socket_options),
                httpcore.ConnectTimeout,
            )
        except UnicodeError as error:  # a label of more than 63 letters
            raise httpcore.ConnectError(error) from error
        return LimitedAsyncStream(stream, window.ends)


class LimitedTransport(httpx.HTTPTransport):
    """httpx's transport under the current limits: no retries, no proxy, no queue. Safe for concurrent use."""

    def __init__(self, verify: ssl.SSLContext | bool = True) -> None:
        super().__init__(verify=verify, limits=_POOL_LIMITS, retries=0)
        self._pool._network_backend = LimitedBackend(_backend_of(self._pool, httpcore.NetworkBackend))


class LimitedAsyncTransport(httpx.AsyncHTTPTransport):
    """The async twin of :class:`LimitedTransport`. Belongs to the event loop that first uses it."""

    def __init__(self, verify: ssl.SSLContext | bool = True) -> None:
        super().__init__(verify=verify, limits=_POOL_LIMITS, retries=0)
        self._pool._network_backend = LimitedAsyncBackend(_backend_of(self._pool, httpcore.AsyncNetworkBackend))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._close_lost()
        return await super().handle_async_request(request)

    async def _close_lost(self) -> None:
        """
        Close the connections that are busy with nothing.

        A cancellation that meets httpcore while it cleans up leaves them open for good.
        """
        pool: Any = self._pool
        if len(pool._connections) <= len(pool._requests):
            return
        used = {id(waiting.connection) for waiting in pool._requests}
        busy = [known for known in pool._connections if not (known.is_idle() or known.is_closed())]
        lost = [known for known in busy if id(known) not in used]
        pool._connections = [known for known in pool._connections if known not in lost]
        for connection in lost:
            with contextlib.suppress(Exception):  # whatever state it is in
                await connection.aclose()


def _backend_of(pool: object, kind: type[T]) -> T:
    # httpx passes no network backend on to httpcore, and building the pool ourselves would mean copying
    # its transport. The attribute is private, so a change must show at start-up, not as limits that do nothing.
    backend = getattr(pool, "_network_backend", None)
    if not isinstance(backend, kind):
        raise RuntimeError(
            f"httpcore {httpcore.__version__} keeps its network backend elsewhere: deadlines would not reach the"
            " sockets; install httpcore>=1.0,<2 and httpx>=0.28,<0.29"
        )
    return backend
