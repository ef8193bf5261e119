"""The loops that make a pass over the places, in both worlds, for calls and for streams."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from pixel_llm.resilience.routes.passing import Pass, Places


def follow(function: Callable[..., Any], places: Places) -> Callable[..., Any]:
    """Like *function*, with a pass over *places* in its place."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        trip = Pass(places, args, kwargs)
        while (visit := trip.next()) is not None:
            with visit:
                places.guide.prepare(visit.name, args)
                value = visit.call(*args, **kwargs)
                visit.answered()
                return value
        raise trip.failure()

    return call


def follow_async(function: Callable[..., Any], places: Places) -> Callable[..., Any]:
    """The same of a coroutine function."""

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        trip = Pass(places, args, kwargs)
        while (visit := trip.next()) is not None:
            with visit:
                await places.guide.prepare_async(visit.name, args)
                value = await visit.call(*args, **kwargs)
                visit.answered()
                return value
        raise trip.failure()

    return call


def follow_stream(function: Callable[..., Any], places: Places) -> Callable[..., Any]:
    """The same of a function that gives streams: another place is asked only before the first content."""

    @functools.wraps(function)
    def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
        trip = Pass(places, args, kwargs)
        while (visit := trip.next()) is not None:
            with visit:
                places.guide.prepare(visit.name, args)
                with visit.call(*args, **kwargs) as chunks:
                    for first in chunks:
                        visit.answered()
                        yield first
                        yield from chunks
                        return
                visit.answered()
                return
        raise trip.failure()

    return stream


def follow_stream_async(function: Callable[..., Any], places: Places) -> Callable[..., Any]:
    """The same of a function that gives async streams."""

    @functools.wraps(function)
    async def stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        trip = Pass(places, args, kwargs)
        while (visit := trip.next()) is not None:
            with visit:
                await places.guide.prepare_async(visit.name, args)
                async with visit.call(*args, **kwargs) as chunks:
                    async for chunk in chunks:
                        visit.answered()
                        yield chunk
                visit.answered()
                return
        raise trip.failure()

    return stream
