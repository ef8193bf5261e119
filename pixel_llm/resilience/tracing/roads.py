"""The ways of calls that somebody sees, in both worlds."""

from __future__ import annotations

from typing import Any, cast

from pixel_llm.resilience.outcome import Outcome
from pixel_llm.resilience.roads.binding import Road
from pixel_llm.resilience.streams.async_stream_road import AsyncStreamRoad
from pixel_llm.resilience.streams.sync_stream_road import SyncStreamRoad
from pixel_llm.resilience.tracing.live import begin
from pixel_llm.resilience.tracing.streams import TracedAsyncStream, TracedSyncStream
from pixel_llm.resilience.tracing.tracer import Tracer


class TracedRoad(Road):
    """A *road* of the sync world whose calls *tracer* sees. No call takes the short road."""

    __slots__ = ("_road", "_tracer")

    def __init__(self, road: Road, tracer: Tracer) -> None:
        super().__init__(road.function, road.stack)
        self._road = road
        self._tracer = tracer

    def go(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Any:
        """Carry a call that began at the moment *started* to its end."""
        return self.outcome(args, kwargs, started).value

    def outcome(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Outcome[Any]:
        """The same, giving its outcome."""
        with begin(self._tracer, self.stack.target, args, kwargs).whole() as result:
            outcome: Outcome[Any] = self._road.outcome(args, kwargs, started)
            result.value = outcome
        return outcome


class TracedAsyncRoad(TracedRoad):
    """The same of the async world."""

    __slots__ = ()

    async def go(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Any:
        """Carry a call that began at the moment *started* to its end."""
        return (await self.outcome(args, kwargs, started)).value

    async def outcome(  # type: ignore[override]
        self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float
    ) -> Outcome[Any]:
        """The same, giving its outcome."""
        with begin(self._tracer, self.stack.target, args, kwargs).whole() as result:
            outcome: Outcome[Any] = await self._road.outcome(args, kwargs, started)
            result.value = outcome
        return outcome


class TracedStreamRoad(TracedRoad):
    """The way of a stream of either world."""

    __slots__ = ()

    def go(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Any:
        """A stream that begins when its first chunk is asked for."""
        if isinstance(self._road, SyncStreamRoad):
            return TracedSyncStream(self._road, args, kwargs, self._tracer)
        return TracedAsyncStream(cast("AsyncStreamRoad", self._road), args, kwargs, self._tracer)
