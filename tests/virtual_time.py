"""An event loop in virtual time, whose clock says that its waits are real: they end when the loop's timers do."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

from pixel_llm.testing import VirtualClock


class LoopClock(VirtualClock):
    """The clock of a :class:`VirtualLoop`: waiting is the loop's business."""

    async def sleep_async(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def patience(self, seconds: float) -> float:
        return seconds


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that jumps to its next timer."""

    def __init__(self, clock: VirtualClock) -> None:
        self._virtual = clock
        super().__init__(_Jumping(clock))

    def time(self) -> float:
        return self._virtual.monotonic()


class _Jumping(selectors.SelectSelector):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing will ever happen"
        self._clock.advance(timeout)
        return super().select(0)


def run_virtual(clock: LoopClock, main: Coroutine[Any, Any, Any]) -> Any:
    """Run *main* to its end in a loop of *clock*'s time."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        return runner.run(main)
