"""Streams that somebody sees: the call is under way from when its first chunk is asked for until the stream ends."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from pixel_llm.resilience.streams.async_stream import AsyncStream
from pixel_llm.resilience.streams.async_stream_road import AsyncStreamRoad
from pixel_llm.resilience.streams.later import LATER
from pixel_llm.resilience.streams.stream import Stream
from pixel_llm.resilience.streams.sync_stream import SyncStream
from pixel_llm.resilience.streams.sync_stream_road import SyncStreamRoad
from pixel_llm.resilience.tracing.live import LiveSpan, begin
from pixel_llm.resilience.tracing.tracer import Tracer


class _Traced(Stream):
    """What both worlds share. Belongs to whoever reads it."""

    #: Makes the span, when the first chunk is asked for.
    _begin_span: Callable[[], LiveSpan] | None = None
    #: There from then until the end.
    _span: LiveSpan | None = None

    def _will_be_seen(self, tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._begin_span = functools.partial(begin, tracer, self.target, args, kwargs)

    def _seen(self) -> LiveSpan:
        """The call's span, which begins now if it has not yet. The stream is not over."""
        begin_span, self._begin_span = self._begin_span, None
        if begin_span is not None:
            self._span = begin_span()
        assert self._span is not None  # noqa: S101 - it is there until the stream is over
        return self._span

    def _end_span(self, error: BaseException | None) -> None:
        """End the span, if the stream is over."""
        if self._is_over:
            self._begin_span, span, self._span = None, self._span, None
            if span is not None:
                span.end(self.outcome(), error)

    def __del__(self) -> None:
        if self._span is not None:
            LATER.soon(functools.partial(self._span.end, self.outcome(), GeneratorExit()))


class TracedSyncStream(_Traced, SyncStream):
    """A stream of the sync world."""

    def __init__(self, road: SyncStreamRoad, args: tuple[Any, ...], kwargs: dict[str, Any], tracer: Tracer) -> None:
        super().__init__(road, args, kwargs)
        self._will_be_seen(tracer, args, kwargs)

    def __next__(self) -> Any:
        if self._is_over:
            return super().__next__()
        span = self._seen()
        try:
            with span.inside():
                chunk = super().__next__()
        except StopIteration:
            self._end_span(GeneratorExit() if self._shall_close else None)
            raise
        except BaseException as error:
            self._end_span(error)
            raise
        span.chunk(chunk)
        self._end_span(GeneratorExit())  # closed by another thread meanwhile
        return chunk

    def close(self) -> None:
        """End the stream; see :meth:`SyncStream.close`."""
        try:
            with nullcontext() if self._span is None else self._span.inside():
                super().close()
        except BaseException as error:
            self._end_span(error)
            raise
        self._end_span(GeneratorExit())

    def _look(self) -> None:
        super()._look()
        self._end_span(self._error)


class TracedAsyncStream(_Traced, AsyncStream):
    """A stream of the async world."""

    def __init__(self, road: AsyncStreamRoad, args: tuple[Any, ...], kwargs: dict[str, Any], tracer: Tracer) -> None:
        super().__init__(road, args, kwargs)
        self._will_be_seen(tracer, args, kwargs)

    async def __anext__(self) -> Any:
        if self._is_over:
            return await super().__anext__()
        span = self._seen()
        try:
            with span.inside():
                chunk = await super().__anext__()
        except StopAsyncIteration:
            self._end_span(GeneratorExit() if self._is_interrupted else None)
            raise
        except BaseException as error:
            self._end_span(error)
            raise
        span.chunk(chunk)
        self._end_span(GeneratorExit())
        return chunk

    async def aclose(self) -> None:
        """End the stream; see :meth:`AsyncStream.aclose`."""
        try:
            with nullcontext() if self._span is None else self._span.inside():
                await super().aclose()
        except BaseException as error:
            self._end_span(error)
            raise
        self._end_span(GeneratorExit())

    def _look(self) -> None:
        super()._look()
        self._end_span(self._error)
