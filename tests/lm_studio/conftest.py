"""Raw servers for what no sound HTTP server does, and both worlds for every case."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from under_policy import LIBRARIES, WORLDS, Clients

from pixel_llm.lm_studio import ChatRequest, LMStudioClient
from pixel_llm.resilience.limits import Limits, publish, reset_published
from pixel_llm.testing import VirtualClock

Handler = Callable[[socket.socket], object]


class RawServer:
    """Runs *handler* in a thread for each connection; *address* is where."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        self.port = self._listener.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    @property
    def accepted(self) -> int:
        return len(self._connections)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            self._handler(connection)

    def close(self) -> None:
        self._shut(self._listener)
        self._threads[0].join(5)
        for connection in self._connections:
            self._shut(connection)
        for thread in self._threads:
            thread.join(5)

    @staticmethod
    def _shut(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Handler], RawServer]]:
    servers: list[RawServer] = []

    def start(handler: Handler) -> RawServer:
        servers.append(RawServer(handler))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def read_request(connection: socket.socket) -> bytes:
    """Read one request, its body included."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            raise OSError("the client left")
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def http(body: bytes | dict[str, Any], status: str = "200 OK", *headers: str, kind: str = "application/json") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


def reply_with(*parts: bytes) -> Handler:
    """Answer each request on a connection with the next part, then hang up."""

    def handler(connection: socket.socket) -> None:
        for part in parts:
            read_request(connection)
            connection.sendall(part)

    return handler


def hang(connection: socket.socket) -> None:
    """Read and say nothing until the client leaves."""
    while connection.recv(65536):
        pass


CHAT = {
    "model": "some-model",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": " A cat. "}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3},
}


@pytest.fixture
def raw() -> Any:
    """The helpers above, for tests that write their own servers."""

    class Raw:
        pass

    for helper in (read_request, http, reply_with, hang):
        setattr(Raw, helper.__name__, staticmethod(helper))
    Raw.CHAT = CHAT  # type: ignore[attr-defined]
    return Raw


class World:
    """Calls the client's methods, or their async twins in a new event loop."""

    def __init__(self, name: str) -> None:
        self.name = name

    def call(self, client: LMStudioClient, method: str, *args: Any) -> Any:
        if self.name == "sync":
            with client:
                return getattr(client, method)(*args)

        async def run() -> Any:
            async with client:
                return await getattr(client, f"{method}_async")(*args)

        return asyncio.run(run())

    def stream(self, client: LMStudioClient, request: ChatRequest, pieces: list[Any]) -> None:
        """Read a whole stream into *pieces*, which has what came if it breaks."""
        if self.name == "sync":
            with client:
                pieces.extend(client.stream(request))
            return

        async def run() -> None:
            async with client:
                async for piece in client.stream_async(request):
                    pieces.append(piece)  # noqa: PERF401 - those before an error are wanted

        asyncio.run(run())

    def chat(self, client: LMStudioClient, **changes: Any) -> Any:
        return self.call(client, "chat", ChatRequest(**{"model": "some-model", "prompt": "What is it?"} | changes))


@pytest.fixture(params=["sync", "async"])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


@pytest.fixture
def limited() -> Callable[..., contextlib.AbstractContextManager[Limits]]:
    """Set limits as a stack does. ``within=0.2`` ends the attempt after 0.2 s of real time."""

    @contextlib.contextmanager
    def limit(within: float | None = None, **fields: Any) -> Iterator[Limits]:
        if within is not None:
            fields["attempt_ends"] = time.monotonic() + within
        limits = Limits(**fields)
        token = publish(limits)
        try:
            yield limits
        finally:
            reset_published(token)

    return limit


@pytest.fixture(params=["sync", "async"])
def clients(request: pytest.FixtureRequest) -> Clients:
    """httpx clients over a policy."""
    return Clients(request.param)


@pytest.fixture(
    params=[(world, library) for world in WORLDS for library in LIBRARIES], ids=lambda p: f"{p[0]}-{p[1].__name__}"
)
def any_clients(request: pytest.FixtureRequest) -> Clients:
    """Clients over a policy, of httpx and of httpx2."""
    return Clients(*request.param)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()
