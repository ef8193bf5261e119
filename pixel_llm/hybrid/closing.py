"""Closing a stream of the async world that nobody holds any more."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from functools import partial
from types import TracebackType
from typing import Any

#: What is closing; a loop holds its tasks weakly.
_CLOSING: set[asyncio.Task[None]] = set()


def close_later(stream: Any, loop: asyncio.AbstractEventLoop) -> None:
    """
    Have *loop* await ``stream.aclose()`` in a task of its own. A finaliser may call this, in any thread.

    Raises:
        RuntimeError: If the loop is closed.
    """
    try:
        is_here = asyncio.get_running_loop() is loop
    except RuntimeError:  # none runs in this thread
        is_here = False
    if is_here:
        _close(stream, loop)
    else:
        loop.call_soon_threadsafe(partial(_close, stream, loop))


def _close(stream: Any, loop: asyncio.AbstractEventLoop) -> None:
    task = loop.create_task(_Closing(stream.aclose()))
    _CLOSING.add(task)
    task.add_done_callback(_CLOSING.discard)


class _Closing(Coroutine[Any, Any, None]):
    """
    A coroutine that begins although it was cancelled before.

    A loop that ends cancels its tasks first: one that has not begun by then would never close anything.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine = coroutine
        self._has_begun = False

    def send(self, value: Any) -> Any:
        """Go on."""
        self._has_begun = True
        return self._coroutine.send(value)

    def throw(
        self,
        kind: type[BaseException] | BaseException,
        value: BaseException | object = None,
        traceback: TracebackType | None = None,
    ) -> Any:
        """Go on with an error; or begin, if there is nothing yet that it could reach."""
        if not self._has_begun:
            return self.send(None)
        return self._coroutine.throw(kind if isinstance(kind, BaseException) else kind())

    def close(self) -> None:
        """End it."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, None, None]:
        return self._coroutine.__await__()
