"""Playing one schedule to real stacks."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import random
from collections.abc import Callable, Iterator
from random import Random
from types import CodeType
from typing import Any

import pixel_llm.resilience
from pixel_llm.events import Event
from pixel_llm.resilience.tracing.live import LiveSpan, current
from soak.callee import Callee
from soak.clock import SoakClock
from soak.consumers import Consumer
from soak.faults import Interrupt
from soak.loop import ShuffledLoop, Stuck
from soak.policies import BACKUP, BANK, USAGE
from soak.primitives import Lock, stepped_by
from soak.records import Attempt, Call, tokens_of
from soak.schedule import Act, CallPlan, Reload, Schedule
from soak.spans import Tracer
from soak.stepper import Stepper
from soak.targets import ASYNC, COOPERATIVE, TARGET, Targets, way_of
from soak.trials import Trials, was_paused_too_long

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
        nested_calls: Those that attempts have made, in the order in which they began.
        attempts: Every attempt, by its number.
        events: What the stacks reported, and when.
        under_way: Attempts under way now.
        running: Those of the first target; *most_running* is the most there ever were.
        blocked: Seconds in which nobody else could run.
        problems: What callers saw that must not be.
        targets: What is called.
        trials: What breakers have permitted and counted.
        tracer: Sees the calls, if the schedule says so.
    """

    targets: Targets

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.clock = SoakClock()
        self.events: list[tuple[float, Event]] = []
        self.calls: list[Call] = []
        self.nested_calls: list[Call] = []
        self.attempts: list[Attempt] = []
        self.problems: list[str] = []
        self.trials = Trials()
        self.tracer = Tracer() if schedule.traced else None
        self.under_way = 0
        self.running = 0
        self.most_running = 0
        self.blocked = 0.0
        self._happened = 0
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

    @property
    def loop(self) -> ShuffledLoop:
        """The event loop. There is one."""
        assert self._loop is not None
        return self._loop

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
                self.stepper.dismiss()

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
        self._go(every, self.schedule.reloads)
        # A stream that was dropped may lie in a cycle: the error for which something served holds the frames it passed.
        if self.under_way or (self.tracer is not None and self.tracer.has_open):
            gc.collect()
            self._go([])

    def make(self, calls: list[Call]) -> None:
        """Make more *calls*, all at once."""
        self._go([[call] for call in calls])

    def look_around(self) -> list[str]:
        """What is left now that all calls have ended, and should not be, in words."""
        left = [*self.stepper.problems, *self.problems, *(f"{lock!r} is held" for lock in self._locks if lock.guards)]
        if self._loop is not None:
            left += [f"{task!r} is not done" for task in self._loop.tasks if not task.done()]
            left += [str(problem) for problem in self._loop.problems]
        if self.under_way:
            left.append(f"{self.under_way} attempts are under way")
        return left

    def _compile(self) -> None:
        callers = self.schedule.callers
        self.targets = Targets(
            self.schedule.policy,
            self.schedule.bank,
            ways=sorted({way_of(Call(caller, plan, "")) for caller in callers for plan in caller.calls}),
            streams=any(plan.reading is not None for caller in callers for plan in caller.calls),
            make=lambda place, way, is_stream: Callee(self, place).way(way, is_stream),
            clock=self.clock,
            emit=self._emit,
            functions=self._functions().__getitem__,
            tracer=self.tracer,
        )

    def _functions(self) -> dict[str, Callable[..., Any]]:
        way = ASYNC if self._loop is not None else COOPERATIVE
        return {BACKUP: Callee(self, BACKUP).way(way, False), USAGE: tokens_of}

    def _emit(self, event: Event) -> None:
        self.events.append((self.clock.now, event))

    def _go(self, every: list[list[Call]], reloads: tuple[Reload, ...] = ()) -> None:
        """Let each of *every* be the calls of one caller, and go on until nothing runs any more."""
        tasks = []
        for number, calls in enumerate(every):
            if calls[0].caller.world == "async":
                tasks.append(calls)
            else:
                self.stepper.spawn(functools.partial(self._caller_sync, calls), f"caller {number}")
        if self._loop is not None and not self._threads:
            self._run_loop(tasks, reloads)
        else:
            if reloads:
                self.stepper.spawn(lambda: self._reload_all(reloads), "reloader")
            if self._loop is not None:
                self.stepper.spawn(lambda: self._run_loop(tasks, ()), "event loop")
        self.stepper.run()

    def _reload_all(self, reloads: tuple[Reload, ...]) -> None:
        begun = self.clock.now
        for reload in reloads:
            self.clock.sleep(max(0.0, begun + reload.at - self.clock.now))
            self.targets.reload(reload.policy)

    # The event loop

    def _run_loop(self, callers: list[list[Call]], reloads: tuple[Reload, ...]) -> None:
        loop = self.loop
        for reload in reloads:
            loop.call_later(reload.at, self.targets.reload, reload.policy)
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

    def _cancel(self, call: Call, task: asyncio.Task[BaseException | None]) -> None:
        if call.state == "planned":  # a task that is cancelled before it has begun never does
            call.begins = call.ended_at = self.clock.now
            call.state, call.ends = "never", 1
            task.cancel()
        elif not call.ends and task.cancel():
            call.cancelled = self.clock.now

    async def _call_async(self, call: Call) -> BaseException | None:
        """Make *call* in this task; gives what it raised."""
        call.begins, call.state = self.clock.now, "begun"
        consumer: Consumer | None = None
        ended: BaseException | None = None
        span = current()
        try:
            if call.is_stream:
                consumer = Consumer(self, call)
                await consumer.read_async()
            elif call.plan.outcome:
                call.outcome = await self.targets.guarded(call).outcome(call)
            else:
                call.value = await self.targets.guarded(call)(call)
        except asyncio.CancelledError as error:
            call.state, ended = "cancelled", error
        except (Exception, Interrupt) as error:  # noqa: BLE001 - looked at later
            ended = error
        self._check_left(call, span)
        self._end(call, ended, consumer)
        return ended

    def _caller_sync(self, calls: list[Call]) -> None:
        for call in calls:
            if call.plan.pause:
                self.clock.sleep(call.plan.pause)
            self._call(call)

    def _call(self, call: Call) -> BaseException | None:
        """Make *call* in this thread; gives what it raised."""
        call.begins, call.state = self.clock.now, "begun"
        consumer: Consumer | None = None
        ended: BaseException | None = None
        span = current()
        try:
            if call.is_stream:
                consumer = Consumer(self, call)
                consumer.read()
            elif call.plan.outcome:
                call.outcome = self.targets.guarded(call).outcome(call)
            else:
                call.value = self.targets.guarded(call)(call)
        except (Exception, Interrupt) as error:  # noqa: BLE001 - looked at later
            ended = error
        self._check_left(call, span)
        self._end(call, ended, consumer)
        return ended

    def _check_left(self, call: Call, span: LiveSpan | None) -> None:
        """The running code is part of *span* again, as before *call*."""
        if current() is not span:
            self.problems.append(f"{call.name} has left its span behind")

    def _end(self, call: Call, ended: BaseException | None, consumer: Consumer | None) -> None:
        self.policy_taken(call)
        if isinstance(ended, Interrupt):
            call.state = "interrupted"
        elif isinstance(ended, Exception):
            call.state, call.error = "paused" if was_paused_too_long(ended) else "error", ended
        elif call.state == "begun":
            call.state = "value" if call.closed is None else "left"
        call.ended_at = self.clock.now
        call.ends += 1
        if consumer is not None:
            self._let_go(call, ended)
            consumer.drop()
        elif call.outcome is not None:
            call.value = call.outcome.value

    def _let_go(self, call: Call, ended: BaseException | None) -> None:
        """Hold nothing of the stream of *call*: what is kept of errors must not keep the frames they passed."""
        attempts = (*call.attempts, *call.elsewhere)
        served_for = call.outcome.error if call.outcome is not None else None
        for error in (ended, served_for, *(attempt.raised for attempt in attempts)):
            while error is not None:
                error.__traceback__ = None
                error = error.__cause__ or error.__context__
        for attempt in attempts:
            attempt.let_go = self._happens() if call.caller.world == "async" else None

    def policy_taken(self, call: Call) -> None:
        """By now *call* certainly knows under which policy it is."""
        if call.last_policy is None:
            call.last_policy = len(self.targets.policies) - 1

    # What is guarded

    def begin(self, call: Call, place: str) -> tuple[Attempt, Act]:
        """An attempt of *call* at this *place* begins; gives what it does."""
        if self.tracer is not None and place != BACKUP and current() is None:
            self.problems.append(f"{call.name}: an attempt began that is no part of any span")
        self.policy_taken(call)
        is_own = place == self.place_of(call)
        acts, before = (call.plan.acts, call.attempts) if is_own else (call.plan.elsewhere, call.elsewhere)
        act = acts[min(len(before), len(acts) - 1)]
        attempt = Attempt(call, place, len(self.attempts), self.clock.now, self._happens())
        before.append(attempt)
        self.attempts.append(attempt)
        self.under_way += 1
        if place == TARGET:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        return attempt, act

    def finish(self, attempt: Attempt) -> None:
        """*attempt* has ended."""
        attempt.ends, attempt.ended = self.clock.now, self._happens()
        self.under_way -= 1
        if attempt.place == TARGET:
            self.running -= 1

    def block(self, seconds: float) -> None:
        """Let time pass, and nobody run meanwhile."""
        self.clock.now += seconds
        self.blocked += seconds

    @staticmethod
    def place_of(call: Call) -> str:
        """The target of *call*."""
        return BANK if call.is_nested else TARGET

    def nested(self, attempt: Attempt) -> None:
        """Let *attempt* call the bank, in this thread; raises what that does."""
        self._pass_on(attempt, self._call(self._nested_call(attempt)))

    async def nested_async(self, attempt: Attempt) -> None:
        """The same in this task."""
        self._pass_on(attempt, await self._call_async(self._nested_call(attempt)))

    def _nested_call(self, attempt: Attempt) -> Call:
        outer = attempt.call
        plan = CallPlan(outer.plan.elsewhere, key=outer.plan.key, outcome=outer.plan.outcome)
        call = Call(outer.caller, plan, f"{outer.name}, nested {len(outer.attempts)}", outer=attempt)
        self.nested_calls.append(call)
        return call

    @staticmethod
    def _pass_on(attempt: Attempt, ended: BaseException | None) -> None:
        if ended is not None:
            attempt.raised = ended if isinstance(ended, Exception) else None
            raise ended

    def _happens(self) -> int:
        self._happened += 1
        return self._happened
