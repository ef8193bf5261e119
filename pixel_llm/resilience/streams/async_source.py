"""Where the chunks of an async stream come from: an async iterator."""

from __future__ import annotations

import contextlib
import contextvars
import types
from collections.abc import Awaitable, Callable, Generator
from math import inf
from typing import Any

from pixel_llm.errors import ValidationError
from pixel_llm.resilience.limits import Published, set_published
from pixel_llm.resilience.roads.stepping import DONE, into, rest, rest_within
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.streams.closing import close_async
from pixel_llm.resilience.streams.delivery import END, Cut

#: Opens the stream: gives, when awaited, an async iterator.
Open = Callable[[], Awaitable[Any]]


class AsyncSource:
    """
    A stream whose code runs in the task that asks, each step in the same context: that of its first consumer,
    with *limits* in it.

    What the code changes there stays there, so the consumer's own context variables are left alone.
    """

    def __init__(self, stack: Stack, open_stream: Open, limits: Published, on_end: Callable[[], object]) -> None:
        self._on_end = on_end
        self._context = contextvars.copy_context()
        self._context.run(set_published, limits)
        self._stack = stack
        self._open: Open | None = open_stream
        self._opened: Any = None
        self._next: Callable[[], Awaitable[Any]] = self._first

    async def next(self, limits: Published, cut: Cut) -> Any:
        """The next chunk, or :data:`END`, or the error that *cut* makes when *limits* have ended."""
        box: list[Any] = []
        try:
            step = into(box, in_context(self._context, self._step()))
            suspended = next(step, DONE)
            if suspended is not DONE:
                endless = limits[0] == inf
                await (rest(step, suspended) if endless else rest_within(step, suspended, limits, cut))
        except BaseException:
            with contextlib.suppress(Exception):  # what it failed of first is the news
                await self.close()
            raise
        if box[0] is END:
            await self.close()
        return box[0]

    async def close(self) -> None:
        """End the iterator, wherever it is."""
        opened, self._opened, self._open = self._opened, None, None
        try:
            await in_context(self._context, close_async(opened))
        finally:
            self._on_end()

    def drop(self) -> None:
        """Nobody has it any more, so the event loop ends its code, if that is an async generator."""
        self._on_end()

    async def _step(self) -> Any:
        try:
            return await self._next()
        except StopAsyncIteration:
            return END

    async def _first(self) -> Any:
        assert self._open is not None  # noqa: S101 - there is one first step
        opened, self._open = await self._open(), None
        if hasattr(opened, "__next__"):
            close = getattr(opened, "close", None)
            if callable(close):
                close()
            raise ValidationError(
                "the function is async, but its stream is sync and would block the event loop: give an async iterator",
                target=self._stack.target,
            )
        self._opened = opened
        # What is no iterator is a stream of one chunk.
        self._next = opened.__anext__ if hasattr(opened, "__anext__") else _nothing
        return await self._next() if hasattr(opened, "__anext__") else opened


async def _nothing() -> Any:
    return END


@types.coroutine
def in_context(context: contextvars.Context, coroutine: Any) -> Generator[Any, Any, Any]:
    """Run *coroutine* in the task that awaits this, but each of its steps in *context*."""
    run, send, throw = context.run, coroutine.send, coroutine.throw
    try:
        suspended = run(send, None)
        while True:
            try:
                value = yield suspended
            except GeneratorExit:
                run(coroutine.close)
                raise
            except BaseException as error:  # noqa: BLE001 - cancellation, mostly; what it means is the code's business
                suspended = run(throw, error)
            else:
                suspended = run(send, value)
    except StopIteration as end:
        return end.value
