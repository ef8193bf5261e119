"""Streams in both worlds: what a stream does, and what its consumer does, is written once."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from virtual_time import LoopClock, run_virtual

from pixel_llm.events import Event
from pixel_llm.policy import TargetPolicy
from pixel_llm.resilience import Stack, guard
from pixel_llm.testing import VirtualClock

TARGET = "writer.write"
END = "the end"


class Hang:
    """The server says nothing for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Script:
    """What the attempts of a stream do: each step raises, calls, hangs, or is a chunk. The last one is repeated."""

    def __init__(self, attempts: tuple[Any, ...]) -> None:
        self.attempts = attempts
        self.calls = 0
        self.closed = 0
        self.delivered: list[Any] = []

    def next_attempt(self) -> list[Any]:
        self.calls += 1
        return self.attempts[min(self.calls, len(self.attempts)) - 1]


def do(step: Any) -> bool:
    """Take a step that both worlds take alike; True if it is a chunk."""
    if isinstance(step, BaseException):
        raise step
    if callable(step):
        step()
        return False
    return True


class World:
    """One of the worlds. *clock* is virtual; *run* drives a case, which is a coroutine function."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.events: list[Event] = []
        self.tracer: Any = None

    def stack(self, **layers: Any) -> Stack:
        policy = TargetPolicy(**layers)
        return Stack(TARGET, policy, clock=self.clock, emit=self.events.append, tracer=self.tracer)

    def guarded(self, *attempts: list[Any], stack: Stack | None = None, **layers: Any) -> Any:
        options = {
            name: layers.pop(name) for name in ("key", "cooperative", "cacheable", "alternative") if name in layers
        }
        script = Script(attempts)
        guarded = guard(stack or self.stack(**layers), self.function(script), **options)
        guarded.script = script
        return guarded

    def open(self, *attempts: list[Any], **layers: Any) -> Any:
        """A stream, as something that both worlds read alike."""
        guarded = self.guarded(*attempts, **layers)
        reader = self.reader(guarded())
        reader.script = guarded.script
        return reader

    def names(self) -> list[str]:
        return [event.name for event in self.events]


#: No case has a stream of more chunks; one that does not end must fail, not hang.
MOST = 10_000


def within_reason(chunks: list[Any]) -> list[Any]:
    assert len(chunks) <= MOST, "the stream does not end"
    return chunks


class SyncReader:
    def __init__(self, stream: Any) -> None:
        self.stream = stream

    async def next(self) -> Any:
        return next(self.stream, END)

    async def rest(self) -> list[Any]:
        return within_reason(list(itertools.islice(self.stream, MOST + 1)))

    async def close(self) -> None:
        self.stream.close()


class SyncStreams(World):
    name = "sync"
    reader = SyncReader

    def __init__(self) -> None:
        super().__init__(VirtualClock(1000.1))
        self.go_on = threading.Event()

    def function(self, script: Script) -> Callable[..., Any]:
        def write(*args: Any) -> Any:
            try:
                for step in script.next_attempt():
                    if isinstance(step, Hang):
                        self.clock.advance(step.seconds)
                        if threading.current_thread() is not threading.main_thread():
                            self.go_on.wait(10)
                    elif do(step):
                        yield step
            finally:
                script.closed += 1

        return write

    def run(self, case: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        coroutine = case()
        try:
            coroutine.send(None)
        except StopIteration as end:
            return end.value
        finally:
            self.go_on.set()
            coroutine.close()
        raise AssertionError("a sync case must not wait")

    async def pause(self, seconds: float) -> None:
        self.clock.advance(seconds)


class AsyncReader:
    def __init__(self, stream: Any) -> None:
        self.stream = stream

    async def next(self) -> Any:
        return await anext(self.stream, END)

    async def rest(self) -> list[Any]:
        chunks = []
        while len(chunks) <= MOST and (chunk := await self.next()) is not END:
            chunks.append(chunk)
        return within_reason(chunks)

    async def close(self) -> None:
        await self.stream.aclose()


class AsyncStreams(World):
    name = "async"
    reader = AsyncReader

    def __init__(self) -> None:
        super().__init__(LoopClock(1000.1))

    def function(self, script: Script) -> Callable[..., Any]:
        async def write(*args: Any) -> Any:
            try:
                for step in script.next_attempt():
                    if isinstance(step, Hang):
                        await asyncio.sleep(step.seconds)
                    elif do(step):
                        yield step
            finally:
                script.closed += 1

        return write

    def run(self, case: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        async def main() -> Any:
            result = await case()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, left
            return result

        return run_virtual(self.clock, main())

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
