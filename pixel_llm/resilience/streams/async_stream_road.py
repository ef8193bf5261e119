"""How a stream of the async world goes through a stack up to its first content. :mod:`sync_stream_road` is its twin."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from pixel_llm.errors import ValidationError
from pixel_llm.policy import FallbackStep
from pixel_llm.resilience.call import Call
from pixel_llm.resilience.fallbacks.remote import RemoteSteps
from pixel_llm.resilience.recovery import Recovery
from pixel_llm.resilience.roads.async_guard import AsyncRoad
from pixel_llm.resilience.roads.options import GuardOptions
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.streams.async_source import AsyncSource
from pixel_llm.resilience.streams.async_stream import AsyncStream
from pixel_llm.resilience.streams.delivery import END, PASSES_BY, Delivery
from pixel_llm.resilience.streams.opening import Opening
from pixel_llm.resilience.streams.stream import Begun


class AsyncStreamRoad(AsyncRoad):
    """The way of a stream through *stack*: that of any call up to its first content, then a :class:`Delivery`."""

    __slots__ = ()

    def __init__(self, stack: Stack, function: Callable[..., Any], options: GuardOptions) -> None:
        open_stream = _opening(function)
        super().__init__(stack, open_stream, options)
        self.function = stack.around_stream(open_stream, is_async=True)
        if self._remote is not None and stack.fallback is not None:
            self._remote = _Steps(stack, stack.fallback, options, guard_alone, is_async=True)

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Call:
        """A call that no cache is read through for: that has no stream to give."""
        call = super().begin(args, kwargs, started)
        call.ticket = PASSES_BY
        return call

    def go(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> AsyncStream:  # type: ignore[override]
        """A stream that begins when its first chunk is asked for."""
        return AsyncStream(self, args, kwargs)

    def _count_success(self, call: Call, recovery: Recovery | None, value: Any) -> None:
        value.recovery = recovery  # a stream has succeeded when it has ended
        if recovery is not None:
            recovery.has_content()

    async def _round(self, call: Call, permit: int) -> Delivery:
        """Open the stream, and wait for its first content."""
        opening = Opening(self.stack, call, permit)
        try:
            opened = functools.partial(self.function, *call.args, **call.kwargs)
            source = AsyncSource(self.stack, opened, opening.limits, opening.slot.done)
            first = await source.next(opening.limits, opening.cut)
        except BaseException as error:
            opening.failed(error)
            raise
        return opening.delivery(source, first, self._keep)


class _Steps(RemoteSteps):
    """Fallback steps that may give a stream themselves: it serves once its first chunk is there."""

    def find(self, index: int, step: FallbackStep, error: Exception) -> Callable[..., Any] | str:
        function = super().find(index, step, error)
        return function if isinstance(function, str) else functools.partial(_begin, function)


async def _begin(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    value = function(*args, **kwargs)
    if inspect.isawaitable(value):
        value = await value
    if isinstance(value, Iterator):
        raise ValidationError(f"it gave a stream that would block the event loop: {type(value).__name__}")
    return Begun(await anext(value, END), value) if isinstance(value, AsyncIterator) else value


def guard_alone(stack: Stack, function: Callable[..., Any], options: GuardOptions) -> Callable[..., Any]:
    """*function* behind *stack*, for good."""
    road = AsyncStreamRoad(stack, function, options)
    return lambda *args, **kwargs: AsyncStream(road, args, kwargs)


def _opening(function: Callable[..., Any]) -> Callable[..., Any]:
    """*function* as a coroutine function."""

    @functools.wraps(function)
    async def open_stream(*args: Any, **kwargs: Any) -> Any:
        opened = function(*args, **kwargs)
        return await opened if inspect.isawaitable(opened) else opened

    return open_stream
