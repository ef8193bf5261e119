"""
Sockets of httpcore's that keep every operation inside the time that is left.

A timeout for each read is not enough: a server that drips one byte a second
answers every read in time and never comes to an end. So connecting, the TLS
handshake and every read and write, those of the headers included, look up
:func:`pixel_llm.resilience.limits.current_limits` and end at its moment.
"""

# ruff: noqa: D102 - the methods are httpcore's own; the classes say what is different about them

from __future__ import annotations

import asyncio
import math
import select
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import httpcore

from pixel_llm.resilience.clock import Clock
from pixel_llm.resilience.limits import current_limits

T = TypeVar("T")

#: The operating system takes no endless timeouts; who waits longer than a day waits again.
_LONGEST_WAIT = 86_400.0
#: An event loop may fire a timer up to its clock's resolution early. This much later, the moment has surely passed.
_GRAIN = 0.001
_WRITE_SIZE = 65_536


class Progress:
    """How far the sending of one request has come: whether it *opened* a connection, and whether any byte *came*."""

    __slots__ = ("came", "opened")

    def __init__(self) -> None:
        self.opened = self.came = False


#: That of the request which is being sent in this thread or task; the pools set it.
progress: ContextVar[Progress] = ContextVar("pixel_llm_progress", default=Progress())  # noqa: B039 - the default is nobody's


class Generation:
    """
    Which connections of a pool may still be used: those opened since the last :meth:`retire`. Safe for concurrent use.

    When a server has closed one idle connection it has most likely closed all.
    """

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0

    def retire(self) -> None:
        """Use none again that is open now; those that are busy end when they are done."""
        self.number += 1


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

    def __init__(self, inner: httpcore.NetworkStream, generation: Generation, connect_ends: float = math.inf) -> None:
        self._inner = inner
        self._connect_ends = connect_ends
        self._generation, self._born = generation, generation.number

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        window = Window.open(timeout)
        while not window.is_over():
            try:
                data = self._inner.read(max_bytes, window.patience())
            except httpcore.ReadTimeout:
                continue  # out of patience, not out of time, if a test's clock runs the show
            if data:
                progress.get().came = True
            return data
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
        return LimitedStream(self._inner.start_tls(ssl_context, server_hostname, window.rest()), self._generation)

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        # httpcore closes an idle connection that can be read: the server has hung up.
        if info == "is_readable" and self._born != self._generation.number:
            return True
        return self._inner.get_extra_info(info)


class LimitedBackend(httpcore.NetworkBackend):
    """Opens connections within the current limits. Looking up a host name is the one thing it cannot cut short."""

    def __init__(self, inner: httpcore.NetworkBackend, generation: Generation) -> None:
        self._inner = inner
        self._generation = generation

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        # socket.create_connection() gives each address of a name the whole timeout: they share it here.
        progress.get().opened = True
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
                return LimitedStream(stream, self._generation, window.ends)
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


def _is_readable(sock: socket.socket) -> bool:
    """True if reading from *sock* would not wait: it holds bytes, or its end, or is closed."""
    if sock.fileno() < 0:
        return True
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


class LimitedAsyncStream(httpcore.AsyncNetworkStream):
    """The async twin of :class:`LimitedStream`."""

    def __init__(
        self, inner: httpcore.AsyncNetworkStream, generation: Generation, connect_ends: float = math.inf
    ) -> None:
        self._inner = inner
        self._connect_ends = connect_ends
        self._generation, self._born = generation, generation.number
        # Kept, since httpcore asks every idle connection before each request whether it can be read, and finding the
        # socket below anyio's layers takes ten times as long as looking.
        self._socket: socket.socket = inner.get_extra_info("socket")

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        window = Window.open(timeout)
        data = await _within(window, lambda wait: self._inner.read(max_bytes, wait), httpcore.ReadTimeout)
        if data:
            progress.get().came = True
        return data

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
        return LimitedAsyncStream(inner, self._generation)

    async def aclose(self) -> None:
        await self._inner.aclose()

    def get_extra_info(self, info: str) -> Any:
        # httpcore closes an idle connection that can be read: the server has hung up.
        if info == "is_readable":
            return self._born != self._generation.number or _is_readable(self._socket)
        return self._inner.get_extra_info(info)


class LimitedAsyncBackend(httpcore.AsyncNetworkBackend):
    """The async twin of :class:`LimitedBackend`; it cuts name look-ups short as well."""

    def __init__(self, inner: httpcore.AsyncNetworkBackend, generation: Generation) -> None:
        self._inner = inner
        self._generation = generation

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        progress.get().opened = True
        window = Window.open(timeout, connecting=True)
        try:
            stream = await _within(
                window,
                lambda wait: self._inner.connect_tcp(host, port, wait, local_address, socket_options),
                httpcore.ConnectTimeout,
            )
        except UnicodeError as error:  # a label of more than 63 letters
            raise httpcore.ConnectError(error) from error
        return LimitedAsyncStream(stream, self._generation, window.ends)
