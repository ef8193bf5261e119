"""The two kinds of sockets a server has: the one that listens, and one for each connection."""

from __future__ import annotations

import contextlib
import json
import math
import selectors
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import h11

from pixel_llm.testing.request import Request
from pixel_llm.testing.wire import Ending

#: How long a sender waits for a client that does not read before it looks whether the server has closed.
_GLANCE = 0.05
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class GoneError(Exception):
    """The connection is over: the client left, or the server hung up."""


class Listener:
    """
    A port that can be opened and shut again and again. Thread-safe.

    A shut port refuses connections: there is no listening socket. On Linux a bound
    socket that does not listen keeps the port from being given to someone else.
    """

    def __init__(self, host: str, port: int, on_connection: Callable[[socket.socket], None]) -> None:
        self._on_connection = on_connection
        self._lock = threading.RLock()
        self._keeper: socket.socket | None = None
        self._bell: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self.host, self.port = host, port

    @property
    def listening(self) -> bool:
        """True while connections are accepted."""
        return self._thread is not None

    def open(self) -> None:
        """
        Listen, if not yet and not closed.

        Raises:
            OSError: If the port is taken.
        """
        with self._lock:
            if self.listening or self._closed:
                return
            if self._keeper is None and sys.platform == "linux":
                self._keeper = self._bind()
            listener = self._bind()
            try:
                listener.listen(128)
            except OSError:
                listener.close()
                raise
            listener.setblocking(False)
            self._bell, rung = socket.socketpair()
            self._thread = threading.Thread(
                target=self._accept, args=(listener, rung), name="lm-studio-listener", daemon=True
            )
            self._thread.start()

    def shut(self) -> None:
        """Stop listening, if not yet; connections are refused once this returns."""
        with self._lock:
            if self._thread is None or self._bell is None:
                return
            self._bell.close()
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """Stop listening for good and let go of the port."""
        with self._lock:
            self._closed = True
            self.shut()
            if self._keeper is not None:
                self._keeper.close()
                self._keeper = None

    def _bind(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if sys.platform != "win32":  # where it would let two servers share a port
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self.host, self.port))
        except BaseException:
            sock.close()
            raise
        self.port = sock.getsockname()[1]
        return sock

    def _accept(self, listener: socket.socket, rung: socket.socket) -> None:
        with selectors.DefaultSelector() as selector, listener, rung:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(rung, selectors.EVENT_READ)
            over = False
            while not over:
                over = rung in [key.fileobj for key, _ in selector.select()]
                self._accept_all(listener)

    def _accept_all(self, listener: socket.socket) -> None:
        """Take every connection that the kernel has made; those left would be reset when the port shuts."""
        while True:
            try:
                connection, _ = listener.accept()
            except ConnectionError:  # the client has gone again
                continue
            except OSError:
                return
            self._on_connection(connection)


class Connection:
    """
    One accepted connection, read and written by its own thread.

    Only :meth:`hang_up` may be called from other threads: it wakes the owner, who
    then closes. Every wait ends at once when the client leaves.
    """

    def __init__(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):  # some systems mind if the client has gone already
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._lock = threading.Lock()
        self._unread = b""
        self._hung_up: Ending | None = None
        self.idle = True

    def read_request(self, patience: float) -> Request:
        """
        The next request; its first byte must come within *patience* seconds.

        Raises:
            GoneError: If there is no next request.
            h11.RemoteProtocolError: If what came is no HTTP.
        """
        parser = h11.Connection(h11.SERVER)
        head: h11.Request | None = None
        body = bytearray()
        if self._unread:
            parser.receive_data(self._unread)
            self._unread = b""
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                if parser.they_are_waiting_for_100_continue:
                    self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                    parser.send(h11.InformationalResponse(status_code=100, headers=[]))
                data = self._receive(patience if head is None else math.inf)
                if data is None:
                    raise GoneError
                parser.receive_data(data)
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                self._unread = parser.trailing_data[0]
                return _build_request(head, bytes(body), parser)
            else:
                raise GoneError

    def wait(self, seconds: float) -> None:
        """
        Let *seconds* pass.

        Raises:
            GoneError: As soon as the client leaves or the server hangs up.
        """
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            data = self._receive(left)
            if data == b"":
                raise GoneError
            self._unread += data or b""

    def send(self, data: bytes) -> None:
        """
        Send all of *data*.

        Raises:
            GoneError: If the client has left or the server has hung up.
        """
        view = memoryview(data)
        while view:
            if self._hung_up:
                raise GoneError
            self._sock.settimeout(_GLANCE)
            try:
                view = view[self._sock.send(view) :]
            except TimeoutError:
                continue
            except OSError as exc:
                raise GoneError from exc

    def hang_up(self, ending: Ending) -> None:
        """End the connection from outside. Not a byte is sent before its owner closes it."""
        with self._lock:
            self._hung_up = self._hung_up or ending
            try:
                self._sock.shutdown(socket.SHUT_RD)  # wakes a reader, and tells the peer nothing
            except OSError:
                return

    def close(self, ending: Ending) -> None:
        """Close, with a reset if *ending* or :meth:`hang_up` says so."""
        with self._lock:
            try:
                if "reset" in (ending, self._hung_up):
                    self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                else:
                    self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:  # the peer was faster
                return
            finally:
                self._sock.close()

    def _receive(self, patience: float) -> bytes | None:
        """What the client sends, b"" if that is the end, None if *patience* seconds pass first."""
        if self._hung_up:
            return b""
        self._sock.settimeout(None if patience == math.inf else patience)
        try:
            return self._sock.recv(65536)
        except TimeoutError:
            return None
        except OSError as exc:
            raise GoneError from exc


def _build_request(head: h11.Request, body: bytes, parser: h11.Connection) -> Request:
    parsed: Any = body
    try:
        parsed = json.loads(body) if body else b""
    except (ValueError, RecursionError):
        parsed = body
    return Request(
        method=head.method.decode("ascii"),
        path=head.target.decode("ascii", "replace").partition("?")[0],
        headers={name.decode("ascii"): value.decode("latin-1") for name, value in head.headers},
        body=parsed,
        keep_alive=parser.their_state is not h11.MUST_CLOSE,
    )
