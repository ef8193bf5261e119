"""What is guarded: it does what the plan of its call says, in each world, as a call or as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from pixel_llm.errors import TimeoutError
from pixel_llm.resilience import current_limits
from soak.faults import FAULTS, Interrupt
from soak.records import Attempt, Call, Chunk, Value
from soak.schedule import Act
from soak.targets import ASYNC, COOPERATIVE

if TYPE_CHECKING:
    from soak.playing import Play

#: How long what hangs takes: longer than every limit of a policy that is drawn, and than all of them together.
HANGS = 4096.0


class Callee:
    """One place that is called: a target, or what stands in for it."""

    def __init__(self, play: Play, place: str) -> None:
        self._play = play
        self._place = place

    def way(self, way: str, is_stream: bool) -> Callable[..., Any]:
        """The callable for one way of calling."""
        if way == ASYNC:
            return self.stream_async if is_stream else self.call_async
        if way == COOPERATIVE:
            return self.stream_cooperative if is_stream else self.call_cooperative
        return self.stream_plain if is_stream else self.call_plain

    # Tasks

    async def call_async(self, call: Call) -> Value:
        """One attempt."""
        attempt, act = self._play.begin(call, self._place)
        try:
            await self._pass_async(act)
            if self._nests(call):
                await self._play.nested_async(attempt)
            return self._result(attempt, act)
        finally:
            self._play.finish(attempt)

    async def stream_async(self, call: Call) -> AsyncIterator[Chunk]:
        """One attempt that gives a stream."""
        attempt, act = self._play.begin(call, self._place)
        try:
            if self._nests(call):
                await self._play.nested_async(attempt)
            for gap in act.chunks:
                if gap:
                    await asyncio.sleep(gap)
                yield self._chunk(attempt, act)
            await self._pass_async(act)
            self._result(attempt, act)
        finally:
            self._play.finish(attempt)

    async def _pass_async(self, act: Act) -> None:
        takes = HANGS if act.ends == "hang" else act.takes
        if act.blocks:
            self._play.block(act.takes)
        elif takes:
            await asyncio.sleep(takes)

    # Threads

    def call_cooperative(self, call: Call) -> Value:
        """One attempt that ends in time by itself."""
        return self._call(call, self._sleep_in_time)

    def call_plain(self, call: Call) -> Value:
        """One attempt that nothing ends."""
        return self._call(call, self._sleep)

    def stream_cooperative(self, call: Call) -> Iterator[Chunk]:
        """One attempt that gives a stream, each step of which ends in time by itself."""
        return self._stream(call, self._sleep_in_time)

    def stream_plain(self, call: Call) -> Iterator[Chunk]:
        """The same, of which nothing ends."""
        return self._stream(call, self._sleep)

    def _call(self, call: Call, sleep: Callable[[Attempt, float], None]) -> Value:
        attempt, act = self._play.begin(call, self._place)
        try:
            self._pass(attempt, act, sleep)
            if self._nests(call):
                self._play.nested(attempt)
            return self._result(attempt, act)
        finally:
            self._play.finish(attempt)

    def _stream(self, call: Call, sleep: Callable[[Attempt, float], None]) -> Iterator[Chunk]:
        attempt, act = self._play.begin(call, self._place)
        try:
            if self._nests(call):
                self._play.nested(attempt)
            for gap in act.chunks:
                sleep(attempt, gap)
                yield self._chunk(attempt, act)
            self._pass(attempt, act, sleep)
            self._result(attempt, act)
        finally:
            self._play.finish(attempt)

    def _pass(self, attempt: Attempt, act: Act, sleep: Callable[[Attempt, float], None]) -> None:
        if act.blocks:
            self._play.block(act.takes)
        else:
            sleep(attempt, HANGS if act.ends == "hang" else act.takes)

    def _sleep(self, attempt: Attempt, seconds: float) -> None:
        if seconds:
            self._play.clock.sleep(seconds)

    def _sleep_in_time(self, attempt: Attempt, seconds: float) -> None:
        left = current_limits().remaining()
        if left is None or seconds <= left:
            self._sleep(attempt, seconds)
        else:
            self._sleep(attempt, left)
            raise _raised(attempt, TimeoutError())

    # What comes of it

    def _nests(self, call: Call) -> bool:
        return call.plan.nested and not call.is_nested and self._place == self._play.place_of(call)

    def _chunk(self, attempt: Attempt, act: Act) -> Chunk:
        index, attempt.delivered = attempt.delivered, attempt.delivered + 1
        tokens = act.tokens if index == 0 else 0
        return Chunk(attempt.call.plan.key, self._play.clock.now, attempt.number, tokens, index)

    def _result(self, attempt: Attempt, act: Act) -> Value:
        if act.ends == "interrupt":
            raise Interrupt
        if act.ends in FAULTS:
            raise _raised(attempt, FAULTS[act.ends](act.asked))
        attempt.complete = True
        return Value(attempt.call.plan.key, self._play.clock.now, attempt.number, act.tokens)


def _raised(attempt: Attempt, error: Exception) -> Exception:
    attempt.raised = error
    return error
