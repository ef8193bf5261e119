"""One HTTP request that is over in time, whatever the other side does."""

from __future__ import annotations

import contextlib
import http.client
import queue
import socket
import threading
from typing import TypeAlias
from urllib.parse import quote, urlsplit

#: Status and body.
Reply: TypeAlias = tuple[int, bytes]


def get(url: str, *, seconds: float, most: int) -> Reply:
    """
    What is answered at *url*: status and body, of which no more than *most* bytes are read.

    Redirects are not followed, proxies not asked. It is done in a thread, since nothing else ends a server that sends
    a byte now and then, or a name service that is silent.

    Args:
        url: An http or https address.
        seconds: Until all of it must be there.
        most: See above.

    Raises:
        TimeoutError: If it is not.
        OSError: If there is no connection, or no longer.
        HTTPException: If what answers is no HTTP server.
        UnicodeError: If the host's name is none.
    """
    parts = urlsplit(url)
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    asking = _Asking(make(parts.hostname or "", parts.port, timeout=seconds), quote(parts.path, safe="/%"), most)
    threading.Thread(target=asking.ask, name="pixel-llm asks", daemon=True).start()
    try:
        reply = asking.replies.get(timeout=seconds)
    except queue.Empty:
        asking.hang_up()
        raise TimeoutError(f"no whole answer within {seconds:g} s") from None
    if isinstance(reply, Exception):
        raise reply
    return reply


class _Asking:
    def __init__(self, connection: http.client.HTTPConnection, path: str, most: int) -> None:
        self.replies: queue.SimpleQueue[Reply | Exception] = queue.SimpleQueue()
        self._connection, self._path, self._most = connection, path, most
        self._socket: socket.socket | None = None

    def ask(self) -> None:
        """Of the thread."""
        try:
            self._connection.connect()
            self._socket = self._connection.sock  # which the connection lets go of before the body is read
            self._connection.request("GET", self._path, headers={"Connection": "close"})
            with self._connection.getresponse() as reply:
                self.replies.put((reply.status, reply.read(self._most)))
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            self.replies.put(error)
        finally:
            self._connection.close()

    def hang_up(self) -> None:
        """Nobody waits any longer: the thread's next read ends."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # of TLS, too, without its farewell
