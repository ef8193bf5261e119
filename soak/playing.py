"""Playing one schedule to a real stack."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections import Counter
from collections.abc import Iterator
from random import Random
from types import CodeType
from typing import Any

import pixel_llm.resilience
from pixel_llm.errors import TimeoutError
from pixel_llm.events import Event
from pixel_llm.resilience import Stack, current_limits, guard
from soak.clock import SoakClock
from soak.faults import FAULTS, Interrupt
from soak.loop import ShuffledLoop, Stuck
from soak.primitives import Lock, stepped_by
from soak.records import Attempt, Call, Value
from soak.schedule import Act, Schedule
from soak.stepper import Stepper

TARGET = "shop.pay"

#: How long what hangs takes: longer than every limit of a policy that is drawn, and than all of them together.
HANGS = 4096.0

_ENGINE = pixel_llm.resilience.__path__[0]


@functools.cache
def is_engine(code: CodeType) -> bool:
    """True for the code whose lines threads change at."""
    return code.co_filename.startswith(_ENGINE)


class Play:
    """
    One schedule, played.

    Attributes:
        calls: Every call, in the order in which they were planned.
        events: What the stack reported, and when.
        running: Attempts under way now; *most_running* is the most there ever were.
        most_of_key: The most attempts under way at once whose calls have the same key.
        starts: The moments at which attempts began.
        blocked: Seconds in which nobody else could run.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.clock = SoakClock()
        self.events: list[tuple[float, Event]] = []
        self.calls: list[Call] = []
        self.starts: list[float] = []
        self.running = 0
        self.most_running = 0
        self.most_of_key = 0
        self._of_key: Counter[int] = Counter()
        self.blocked = 0.0
        chance = Random(schedule.order)
        random.seed(schedule.order)
        self.stepper = Stepper(self.clock, chance, lines=schedule.lines, opcodes=schedule.opcodes, stepped=is_engine)
        self._threads = "sync" in schedule.worlds
        self._loop: ShuffledLoop | None = None
        self._locks: list[Lock] = []
        if "async" in schedule.worlds:
            wait = self._wait_beside_threads if self._threads else self._wait_alone
            self._loop = ShuffledLoop(self.clock, chance if schedule.shuffled else None, wait)
            self._loop.woken = self._wake

    @contextlib.contextmanager
    def set_up(self) -> Iterator[None]:
        """Within, it can be played."""
        with stepped_by(self.stepper) as self._locks:
            try:
                self._compile()
                yield
            finally:
                if self._loop is not None:
                    self._loop.close()

    def storm(self) -> None:
        """
        Make all calls.

        Raises:
            Stuck: If they never end.
        """
        every = []
        for number, caller in enumerate(self.schedule.callers):
            every.append([Call(caller, plan, f"call {number}.{place}") for place, plan in enumerate(caller.calls)])
            self.calls += every[-1]
        self._go(every)

    def make(self, calls: list[Call]) -> None:
        """Make more *calls*, all at once."""
        self._go([[call] for call in calls])

    def look_around(self) -> list[str]:
        """What is left now that all calls have ended, and should not be, in words."""
        left = [*self.stepper.problems, *(f"{lock!r} is held" for lock in self._locks if lock.guards)]
        if self._loop is not None:
            left += [f"{task!r} is not done" for task in self._loop.tasks if not task.done()]
            left += [str(problem) for problem in self._loop.problems]
        if self.running:
            left.append(f"{self.running} attempts are under way")
        return left

    def _compile(self) -> None:
        backup = self._back_up_async if self._loop is not None else self._back_up
        self.stack = Stack(
            TARGET, self.schedule.policy, clock=self.clock, emit=self._emit, find_function=lambda name: backup
        )
        options: dict[str, Any] = {}
        if self.stack.caches:
            options["key"] = _key
        self._guarded: dict[str, Any] = {}
        worlds = self.schedule.worlds
        if "async" in worlds:
            self._guarded["async"] = guard(self.stack, self._attempt_async, **options)
        if "sync" in worlds:
            self._guarded["cooperative"] = guard(self.stack, self._attempt_cooperative, cooperative=True, **options)
            self._guarded["plain"] = guard(self.stack, self._attempt_plain, **options)

    def _emit(self, event: Event) -> None:
        self.events.append((self.clock.now, event))

    def _go(self, every: list[list[Call]]) -> None:
        """Let each of *every* be the calls of one caller, and go on until nothing runs any more."""
        tasks = []
        for number, calls in enumerate(every):
            if calls[0].caller.world == "async":
                tasks.append(calls)
            else:
                self.stepper.spawn(functools.partial(self._caller_sync, calls), f"caller {number}")
        if self._loop is None:
            self.stepper.run()
        elif not self._threads:
            self._run_loop(tasks)
        else:
            self.stepper.spawn(lambda: self._run_loop(tasks), "event loop")
            self.stepper.run()

    # The event loop

    def _run_loop(self, callers: list[list[Call]]) -> None:
        loop = self._loop
        assert loop is not None
        if callers:
            loop.run_until_complete(self._run_callers(loop, callers))
        loop.run_dry()

    async def _run_callers(self, loop: ShuffledLoop, callers: list[list[Call]]) -> None:
        await asyncio.wait([loop.create_task(self._caller_async(loop, calls)) for calls in callers])

    def _wait_alone(self, moment: float | None) -> None:
        if moment is None:
            raise Stuck("the event loop waits for what will never happen")
        self.clock.advance_to(moment)

    def _wait_beside_threads(self, moment: float | None) -> None:
        if moment is None:
            self.stepper.wait(self._loop)
        else:
            self.stepper.wait(self._loop, max(0.0, moment - self.clock.now))

    def _wake(self) -> None:
        if self._threads:
            self.stepper.wake(self._loop)

    # Callers

    async def _caller_async(self, loop: ShuffledLoop, calls: list[Call]) -> None:
        for call in calls:
            if call.plan.pause:
                await asyncio.sleep(call.plan.pause)
            if call.plan.cancel is None:
                await self._call_async(call)
            else:
                task = loop.create_task(self._call_async(call))
                timer = loop.call_later(call.plan.cancel, self._cancel, call, task)
                await asyncio.wait([task])
                timer.cancel()

    def _cancel(self, call: Call, task: asyncio.Task[None]) -> None:
        if call.state == "planned":  # a task that is cancelled before it has begun never does
            call.begins = call.ended_at = self.clock.now
            call.state, call.ends = "never", 1
            task.cancel()
        elif not call.ends and task.cancel():
            call.cancelled = self.clock.now

    async def _call_async(self, call: Call) -> None:
        call.begins, call.state = self.clock.now, "begun"
        guarded = self._guarded["async"]
        try:
            if call.plan.outcome:
                call.outcome = await guarded.outcome(call)
            else:
                call.value = await guarded(call)
            call.state = "value"
        except asyncio.CancelledError:
            call.state = "cancelled"
        except Exception as error:  # noqa: BLE001 - looked at later
            call.state, call.error = "error", error
        except Interrupt:
            call.state = "interrupted"
        self._end(call)

    def _caller_sync(self, calls: list[Call]) -> None:
        for call in calls:
            if call.plan.pause:
                self.clock.sleep(call.plan.pause)
            call.begins = self.clock.now
            guarded = self._guarded["cooperative" if call.caller.cooperative else "plain"]
            try:
                if call.plan.outcome:
                    call.outcome = guarded.outcome(call)
                else:
                    call.value = guarded(call)
                call.state = "value"
            except Exception as error:  # noqa: BLE001 - looked at later
                call.state, call.error = "error", error
            except Interrupt:
                call.state = "interrupted"
            self._end(call)

    def _end(self, call: Call) -> None:
        call.ended_at = self.clock.now
        call.ends += 1
        if call.outcome is not None:
            call.value = call.outcome.value

    # What is guarded

    async def _attempt_async(self, call: Call) -> Value:
        attempt, act = self._begin(call)
        try:
            takes = HANGS if act.ends == "hang" else act.takes
            if act.blocks:
                self._block(act)
            elif takes:
                await asyncio.sleep(takes)
            return self._result(attempt, act)
        finally:
            self._finish(attempt)

    def _attempt_cooperative(self, call: Call) -> Value:
        attempt, act = self._begin(call)
        try:
            takes = HANGS if act.ends == "hang" else act.takes
            left = current_limits().remaining()
            if act.blocks:
                self._block(act)
            elif left is not None and takes > left:
                self.clock.sleep(left)
                raise self._raised(attempt, TimeoutError())
            elif takes:
                self.clock.sleep(takes)
            return self._result(attempt, act)
        finally:
            self._finish(attempt)

    def _attempt_plain(self, call: Call) -> Value:
        attempt, act = self._begin(call)
        try:
            takes = HANGS if act.ends == "hang" else act.takes
            if act.blocks:
                self._block(act)
            elif takes:
                self.clock.sleep(takes)
            return self._result(attempt, act)
        finally:
            self._finish(attempt)

    def _back_up(self, *_: Any, **__: Any) -> str:
        """What fallbacks call."""
        return "backup"

    async def _back_up_async(self, *_: Any, **__: Any) -> str:
        await asyncio.sleep(0.25)
        return "backup"

    def _begin(self, call: Call) -> tuple[Attempt, Act]:
        now = self.clock.now
        attempt = Attempt(call, now)
        acts = call.plan.acts
        act = acts[min(len(call.attempts), len(acts) - 1)]
        call.attempts.append(attempt)
        self.starts.append(now)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self._of_key[call.plan.key] += 1
        self.most_of_key = max(self.most_of_key, self._of_key[call.plan.key])
        return attempt, act

    def _finish(self, attempt: Attempt) -> None:
        attempt.ends = self.clock.now
        self.running -= 1
        self._of_key[attempt.call.plan.key] -= 1

    def _block(self, act: Act) -> None:
        self.clock.now += act.takes
        self.blocked += act.takes

    def _result(self, attempt: Attempt, act: Act) -> Value:
        if act.ends == "interrupt":
            raise Interrupt
        if act.ends in FAULTS:
            raise self._raised(attempt, FAULTS[act.ends](act.asked))
        return Value(attempt.call.plan.key, self.clock.now)

    @staticmethod
    def _raised(attempt: Attempt, error: Exception) -> Exception:
        attempt.raised = error
        return error


def _key(call: Call) -> int:
    return call.plan.key
