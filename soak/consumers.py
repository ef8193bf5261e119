"""The consumers of streams: they read, pause, close and abandon as their plan says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from soak.records import Call, Read
from soak.schedule import Reading

if TYPE_CHECKING:
    from soak.playing import Play

_END: Any = object()


class Consumer:
    """
    What the consumers of both worlds share: one stream, as *call* plans to read it.

    Attributes:
        stream: What is read.
    """

    def __init__(self, play: Play, call: Call) -> None:
        assert call.plan.reading is not None
        self._play = play
        self._call = call
        self._plan: Reading = call.plan.reading
        self._pauses = self._seconds()
        self._paused = 0.0
        self.stream: Any = play.targets.guarded(call)(call)
        play.policy_taken(call)

    async def read_async(self) -> None:
        """Read the stream to the end that the plan says, in a task."""
        loop = self._play.loop
        closer = None
        if self._plan.beside is not None:
            closer = loop.call_later(self._plan.beside, lambda: loop.create_task(self._close_beside_async()))
        try:
            while not self._leaves():
                began = self._play.clock.now
                try:
                    chunk = await anext(self.stream, _END)
                finally:
                    self._has_read(began)
                if chunk is _END:
                    await self._end_again(anext(self.stream, _END))
                    return
                if pause := self._got(chunk):
                    await self._play.clock.sleep_async(pause)
            if self._plan.closes:
                await self.stream.aclose()
        finally:
            self._look_back()
            if closer is not None:
                closer.cancel()

    def read(self) -> None:
        """The same in a thread."""
        if self._plan.beside is not None:
            self._play.stepper.spawn(self._close_beside, f"{self._call.name}, closer")
        try:
            while not self._leaves():
                began = self._play.clock.now
                try:
                    chunk = next(self.stream, _END)
                finally:
                    self._has_read(began)
                if chunk is _END:
                    if next(self.stream, _END) is not _END:
                        self._play.problems.append(f"{self._call.name}: its stream went on after its end")
                    return
                if pause := self._got(chunk):
                    self._play.clock.sleep(pause)
            if self._plan.closes:
                self.stream.close()
        finally:
            self._look_back()

    async def _end_again(self, read: Any) -> None:
        if await read is not _END:
            self._play.problems.append(f"{self._call.name}: its stream went on after its end")

    def _leaves(self) -> bool:
        leaves = self._plan.leaves is not None and len(self._call.chunks) >= self._plan.leaves
        if leaves:
            self._call.state = "left"
        return leaves

    def _has_read(self, began: float) -> None:
        self._call.reads.append(Read(began, self._play.clock.now, self._paused))

    def _got(self, chunk: Any) -> float:
        """Note *chunk*; gives the seconds to pause."""
        self._call.chunks.append(chunk)
        self._paused = next(self._pauses)
        return self._paused

    def _seconds(self) -> Iterator[float]:
        yield from self._plan.pauses
        while True:
            yield self._plan.pauses[-1]

    def _look_back(self) -> None:
        self._call.outcome = self.stream.outcome()

    async def _close_beside_async(self) -> None:
        stream = self.stream
        if not self._call.ends and stream is not None:
            self._call.closed = self._play.clock.now
            await stream.aclose()

    def _close_beside(self) -> None:
        self._play.clock.sleep(self._plan.beside or 0.0)
        stream = self.stream
        if not self._call.ends and stream is not None:
            self._call.closed = self._play.clock.now
            stream.close()

    def drop(self) -> None:
        """Let go of the stream."""
        self.stream = None
