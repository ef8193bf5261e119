"""The endpoint as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

from pixel_llm.monitoring.endpoint.answers import Answers
from pixel_llm.monitoring.sources import HasSnapshot

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

#: What servers such as uvicorn call.
ASGIApp: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def metrics_asgi_app(policies: HasSnapshot | Iterable[HasSnapshot]) -> ASGIApp:
    """
    An ASGI application with ``/metrics``, ``/snapshot`` and ``/health``, to be mounted wherever it suits.

    The event loop goes on meanwhile: what takes time is done in a thread. Otherwise like :func:`metrics_wsgi_app`.

    Args:
        policies: One or several.

    Raises:
        ValidationError: If something else is passed.
    """
    answers = Answers(policies)

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            answer = await asyncio.to_thread(answers.answer, scope["method"], _path(scope), _accept_encoding(scope))
            headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            body = b"" if scope["method"] == "HEAD" else answer.body
            await send({"type": "http.response.body", "body": body})

    return app


def _path(scope: MutableMapping[str, Any]) -> str:
    """The path below where the application is mounted: servers of today have the mount's own in it as well."""
    path, mount = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    below = path.removeprefix(mount)
    return below if mount and (not below or below.startswith("/")) else path


def _accept_encoding(scope: MutableMapping[str, Any]) -> str:
    return ",".join(value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"accept-encoding")


async def _live(receive: Receive, send: Send) -> None:
    """Nothing is to be done when the server starts or ends."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
