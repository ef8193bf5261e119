"""Callables whose calls are seen as attempts, in the four ways: plain and as a stream, for threads and for tasks."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from pixel_llm.resilience.streams.closing import close_async
from pixel_llm.resilience.tracing.live import LiveSpan, current

_END = object()


def traced(target: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """*function*, a plain one."""

    @functools.wraps(function)
    def attempt(*args: Any, **kwargs: Any) -> Any:
        around = current()
        if around is None:  # the call began before somebody looked
            return function(*args, **kwargs)
        with around.attempt(target).whole() as result:
            result.value = value = function(*args, **kwargs)
        return value

    return attempt


def traced_async(target: str, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """*function*, whose calls can be awaited."""

    @functools.wraps(function)
    async def attempt(*args: Any, **kwargs: Any) -> Any:
        around = current()
        if around is None:
            return await function(*args, **kwargs)
        with around.attempt(target).whole() as result:
            result.value = value = await function(*args, **kwargs)
        return value

    return attempt


def traced_stream(target: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """*function*, which gives an iterator: the attempt lasts until that ends."""

    @functools.wraps(function)
    def attempt(*args: Any, **kwargs: Any) -> Any:
        around = current()
        if around is None:
            return function(*args, **kwargs)
        span = around.attempt(target)
        with span.opening():
            opened = function(*args, **kwargs)
        if hasattr(opened, "__next__"):
            return _chunks(span, opened)
        span.end(None, None)
        return opened

    return attempt


def traced_stream_async(target: str, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """*function*, whose calls can be awaited and give an async iterator: the attempt lasts until that ends."""

    @functools.wraps(function)
    async def attempt(*args: Any, **kwargs: Any) -> Any:
        around = current()
        if around is None:
            return await function(*args, **kwargs)
        span = around.attempt(target)
        with span.opening():
            opened = await function(*args, **kwargs)
        if hasattr(opened, "__anext__"):
            return _chunks_async(span, opened)
        span.end(None, None)
        return opened

    return attempt


def _chunks(span: LiveSpan, opened: Iterator[Any]) -> Iterator[Any]:
    with span.whole():
        yield from opened


async def _chunks_async(span: LiveSpan, opened: Any) -> AsyncIterator[Any]:
    with span.whole():
        try:
            while (chunk := await anext(opened, _END)) is not _END:
                yield chunk
        finally:
            await close_async(opened)
