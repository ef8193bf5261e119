"""How a stream of the sync world goes through a stack up to its first content. :mod:`async_stream_road` is its twin."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from pixel_llm.errors import ValidationError
from pixel_llm.policy import FallbackStep
from pixel_llm.resilience.call import Call
from pixel_llm.resilience.fallbacks.remote import RemoteSteps
from pixel_llm.resilience.recovery import Recovery
from pixel_llm.resilience.roads.options import GuardOptions
from pixel_llm.resilience.roads.sync_guard import SyncRoad
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.streams.delivery import END, PASSES_BY, Delivery
from pixel_llm.resilience.streams.opening import Opening
from pixel_llm.resilience.streams.stream import Begun
from pixel_llm.resilience.streams.sync_source import Steps, SyncSource, ThreadSource
from pixel_llm.resilience.streams.sync_stream import SyncStream


class SyncStreamRoad(SyncRoad):
    """The way of a stream through *stack*: that of any call up to its first content, then a :class:`Delivery`."""

    __slots__ = ("_make_source",)

    def __init__(self, stack: Stack, function: Callable[..., Any], options: GuardOptions) -> None:
        super().__init__(stack, function, dataclasses.replace(options, cooperative=True))
        self.function = stack.around_stream(function, is_async=False)
        timeout = stack.policy.timeout
        self._make_source: Callable[..., Any] = SyncSource
        if self._remote is not None and stack.fallback is not None:
            self._remote = _Steps(stack, stack.fallback, options, guard_alone, is_async=False)
        if timeout is not None and timeout.ends_attempts and not options.cooperative:
            # An iterator can't be interrupted: a limit on its steps buys it a thread, a deadline alone is
            # checked between chunks.
            self._make_source, self._threads = functools.partial(ThreadSource, stack), stack.abandoned_threads

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Call:
        """A call that no cache is read through for: that has no stream to give."""
        call = super().begin(args, kwargs, started)
        call.ticket = PASSES_BY
        return call

    def go(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> SyncStream:
        """A stream that begins when its first chunk is asked for."""
        return SyncStream(self, args, kwargs)

    def _count_success(self, call: Call, recovery: Recovery | None, value: Any) -> None:
        value.recovery = recovery  # a stream has succeeded when it has ended
        if recovery is not None:
            recovery.has_content()

    def _round(self, call: Call, permit: int) -> Delivery:
        """Open the stream, and wait for its first content."""
        opening = Opening(self.stack, call, permit)
        try:
            opened = functools.partial(self.function, *call.args, **call.kwargs)
            source = self._make_source(Steps(self.stack, opened, opening.limits), opening.slot.done)
            first = source.next(opening.limits, opening.cut)
        except BaseException as error:
            opening.failed(error)
            raise
        return opening.delivery(source, first, self._keep)


class _Steps(RemoteSteps):
    """Fallback steps that may give a stream themselves: it serves once its first chunk is there."""

    def find(self, index: int, step: FallbackStep, error: Exception) -> Callable[..., Any] | str:
        function = super().find(index, step, error)
        return function if isinstance(function, str) else functools.partial(_begin, function)


def _begin(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    value = function(*args, **kwargs)
    if isinstance(value, AsyncIterator):
        raise ValidationError(f"it gave a stream that a sync one can't read: {type(value).__name__}")
    return Begun(next(value, END), value) if isinstance(value, Iterator) else value


def guard_alone(stack: Stack, function: Callable[..., Any], options: GuardOptions) -> Callable[..., Any]:
    """*function* behind *stack*, for good."""
    road = SyncStreamRoad(stack, function, options)
    return lambda *args, **kwargs: SyncStream(road, args, kwargs)
