"""
Calls that a model takes through a stack, step by step, in either world.

A :class:`Caller` calls something guarded, in a task or a thread of its own. Each attempt stands still in what is called
until somebody says how it ends, each wait until somebody moves the clock. So between two steps everybody rests, and
what there is can be compared with what a model says there should be.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from math import inf
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from virtual_time import LoopClock, VirtualLoop

from pixel_llm.testing import VirtualClock

#: All times are multiples of this, so that sums are exact.
TICK = 1 / 8

#: Virtual seconds in which something would have happened.
_LONG = 10.0

#: Real seconds within which threads must have come to rest.
_SOON = 5.0

_caller: contextvars.ContextVar[Caller | None] = contextvars.ContextVar("caller", default=None)


class Over(BaseException):
    """The example has ended, so everything that still runs ends."""


class Attempt:
    """
    One call of what is guarded.

    Attributes:
        began: The moment at which it began.
        ended: None while it runs; then ``returned``, ``raised`` or ``cancelled``.
    """

    def __init__(self, began: float) -> None:
        self.began = began
        self.ended: str | None = None
        self.outcome: Any = None
        self.is_told = False
        self.wake: Callable[[], object] = lambda: None

    def end(self, outcome: Any) -> None:
        """Let it end: an exception is raised, anything else returned."""
        self.outcome, self.is_told = outcome, True
        self.wake()

    def give(self) -> Any:
        """What it has been told to give."""
        if isinstance(self.outcome, BaseException):
            self.ended = "raised"
            raise self.outcome
        self.ended = "returned"
        return self.outcome


class Caller:
    """
    Somebody who calls something guarded, once.

    Attributes:
        attempts: What has come of it so far.
        asleep_until: The moment to which it sleeps now, if it does.
        outcome: What the call has given, once it has.
        error: What it has raised.
    """

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.asleep_until: float | None = None
        self.outcome: Any = None
        self.error: BaseException | None = None
        self.ended_at: float | None = None
        self.interrupt: Callable[[], object] = lambda: None

    @property
    def has_ended(self) -> bool:
        return self.ended_at is not None

    @property
    def running(self) -> list[Attempt]:
        """Its attempts that run now."""
        return [attempt for attempt in self.attempts if attempt.ended is None]


class AsyncWorld:
    """Callers are tasks of a loop in virtual time."""

    is_async = True

    def __init__(self) -> None:
        self.clock = _TaskClock(0.0)
        self._loop = VirtualLoop(self.clock)
        self._tasks: list[asyncio.Task[None]] = []

    def target(self) -> Callable[..., Any]:
        """What is guarded. It takes anything."""

        async def target(*args: Any) -> Any:
            caller = _caller.get()
            assert caller is not None
            attempt, future = Attempt(self.clock.monotonic()), self._loop.create_future()
            caller.attempts.append(attempt)
            attempt.wake = lambda: future.done() or future.set_result(None)
            try:
                await future
            except asyncio.CancelledError:
                attempt.ended = "cancelled"
                raise
            return attempt.give()

        return target

    def start(self, guarded: Callable[..., Any], *args: Any) -> Caller:
        """Call *guarded*, in a task of its own."""
        caller = Caller()

        async def call() -> None:
            _caller.set(caller)
            try:
                caller.outcome = await guarded.outcome(*args)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the model is asked
                caller.error = error
            finally:
                caller.ended_at = self.clock.monotonic()

        task = self._loop.create_task(call())
        caller.interrupt = task.cancel
        self._tasks.append(task)
        return caller

    def rest(self, until: Callable[[], bool] = lambda: True) -> None:
        """Let everybody go on until all wait for something."""
        self._loop.run_until_complete(_turns())

    def advance_to(self, moment: float) -> None:
        """Move the clock."""
        self._loop.run_until_complete(asyncio.sleep(moment - self.clock.monotonic()))
        self.rest()

    def close(self) -> None:
        """End everything. No task may be left that the callers have not waited for."""
        for task in self._tasks:
            task.cancel()
        self.rest()
        left = asyncio.all_tasks(self._loop)
        self._loop.close()
        assert left == set()


async def _turns() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


class _TaskClock(LoopClock):
    """Notes who sleeps."""

    async def sleep_async(self, seconds: float) -> None:
        caller = _caller.get()
        assert caller is not None
        caller.asleep_until = self.monotonic() + seconds
        try:
            await super().sleep_async(seconds)
        finally:
            caller.asleep_until = None


class SyncWorld:
    """Callers are threads, which wait for the clock or for somebody to say how an attempt ends."""

    is_async = False

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.over = False
        self.clock = _ThreadClock(self)
        self._threads: list[threading.Thread] = []
        self._attempts: list[Attempt] = []

    def target(self) -> Callable[..., Any]:
        """What is guarded. It takes anything."""

        def target(*args: Any) -> Any:
            caller = _caller.get()
            assert caller is not None
            attempt = Attempt(self.clock.monotonic())
            attempt.wake = self._notify
            with self.changed:
                caller.attempts.append(attempt)
                self._attempts.append(attempt)
                self.wait_for(lambda: attempt.is_told)
                return attempt.give()

        return target

    def start(self, guarded: Callable[..., Any], *args: Any) -> Caller:
        """Call *guarded*, in a thread of its own."""
        caller = Caller()

        def call() -> None:
            _caller.set(caller)
            try:
                caller.outcome = guarded.outcome(*args)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the model is asked
                caller.error = error
            finally:
                with self.changed:
                    caller.ended_at = self.clock.monotonic()
                    self.changed.notify_all()

        thread = threading.Thread(target=call)
        caller.interrupt = lambda: [attempt.end(KeyboardInterrupt()) for attempt in caller.running]
        self._threads.append(thread)
        thread.start()
        return caller

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait, with the lock held, until *condition* holds."""
        self.changed.notify_all()
        self.changed.wait_for(lambda: self.over or condition())
        if self.over:
            raise Over

    def rest(self, until: Callable[[], bool] = lambda: True) -> None:
        """Wait for *until*, not for ever. Some of it changes without a word, so it is looked at every millisecond."""
        with self.changed:
            for _ in range(int(_SOON * 1000)):
                if until():
                    return
                self.changed.wait(0.001)

    def advance_to(self, moment: float) -> None:
        """Move the clock."""
        self.clock.move_to(moment)
        self._notify()

    def close(self) -> None:
        """End everything."""
        with self.changed:
            self.over = True
            self.changed.notify_all()
        for thread in self._threads:
            thread.join(_SOON)
            assert not thread.is_alive()

    def _notify(self) -> None:
        with self.changed:
            self.changed.notify_all()


class _ThreadClock(VirtualClock):
    """Whoever sleeps waits until the clock is moved."""

    def __init__(self, world: SyncWorld) -> None:
        super().__init__(0.0)
        self._world = world

    def sleep(self, seconds: float) -> None:
        caller, until = _caller.get(), self.monotonic() + seconds
        assert caller is not None
        with self._world.changed:
            caller.asleep_until = until
            try:
                self._world.wait_for(lambda: self.monotonic() >= until)
            finally:
                caller.asleep_until = None

    def move_to(self, moment: float) -> None:
        self._now = moment

    def patience(self, seconds: float) -> float:
        if self._world.over:
            raise Over
        return min(seconds, 0.001)


class SteppedMachine(RuleBasedStateMachine):
    """
    The base class of a machine that takes calls through a stack and through a model of it.

    Subclasses say what the world is, what is *seen* of it, what the model *expects*, and when the model will do
    something *next* by itself.
    """

    world_type: type[AsyncWorld] | type[SyncWorld] = AsyncWorld

    def __init__(self) -> None:
        super().__init__()
        self.world = self.world_type()
        self.events: list[Any] = []

    def seen(self) -> Any:
        raise NotImplementedError

    def expected(self) -> Any:
        raise NotImplementedError

    def next_moment(self) -> float:
        """When the model does something by itself; inf if it waits for somebody."""
        return inf

    def come_to(self, moment: float) -> None:
        """Let the model do what it does at this moment."""

    @property
    def now(self) -> float:
        return self.world.clock.monotonic()

    def agree(self) -> None:
        """The world, once it rests, is as the model says."""
        self.world.rest(lambda: self.seen() == self.expected())

        assert self.expected() == self.seen()

    def advance(self, seconds: float) -> None:
        """Move the clock, from one thing that happens to the next."""
        ends = self.now + seconds
        while (moment := self.next_moment()) <= ends:
            self.world.advance_to(moment)
            self.come_to(moment)
            self.agree()
        self.world.advance_to(ends)

    @rule(times=st.integers(1, 4))
    def let_happen(self, times: int) -> None:
        """Wait for so many things that happen by themselves, or long enough to see that nothing does."""
        for _ in range(times if hasattr(self, "stack") else 0):
            self.advance(min(self.next_moment() - self.now, _LONG))

    def teardown(self) -> None:
        with contextlib.closing(self.world):
            super().teardown()
