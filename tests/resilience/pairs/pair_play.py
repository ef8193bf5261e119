"""Calls of one stack in virtual time, one after the other or at once, driven sync and async by the same script."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from virtual_time import LoopClock, run_virtual

from pixel_llm.errors import ErrorCode, TimeoutError
from pixel_llm.events import Event
from pixel_llm.policy import TargetPolicy
from pixel_llm.resilience import Stack, current_limits, guard
from soak.clock import START, SoakClock
from soak.playing import is_engine
from soak.primitives import replaced, stepped_by
from soak.stepper import Stepper

TARGET = "shop.pay"

#: How often, in seconds, a function that reads its limits looks at them.
SLICE = 0.125


@dataclass(frozen=True, slots=True)
class Step:
    """What an attempt does: it takes so many seconds, then *end* gives its result or raises its error."""

    seconds: float
    end: Callable[[], Any]
    lingers: float = 0.0


def gives(value: Any, after: float = 0.0) -> Step:
    """An attempt that succeeds."""
    return Step(after, lambda: value)


def does(function: Callable[[], Any], after: float = 0.0) -> Step:
    """An attempt that ends as *function* does."""
    return Step(after, function)


def fails(make_error: Callable[[], Exception], after: float = 0.0) -> Step:
    """An attempt that fails."""

    def end() -> Any:
        raise make_error()

    return Step(after, end)


def hangs(seconds: float = 64.0, *, lingers: float = 0.0) -> Step:
    """An attempt that takes longer than it may. Told to end, it *lingers* so many seconds more."""
    return Step(seconds, lambda: "too late", lingers)


class Called:
    """One call. Moments are seconds from the beginning of the case."""

    def __init__(self, at: float, args: tuple[Any, ...], within: float | None) -> None:
        self.at = at
        self.args = args
        self.within = within
        self.ended = 0.0
        self.outcome: Any = None
        self.error: Any = None

    @property
    def value(self) -> Any:
        """What it gave. Raises what it raised."""
        if self.error is not None:
            raise self.error
        return self.outcome.value

    @property
    def code(self) -> ErrorCode:
        """The code of what it raised."""
        assert self.error is not None, f"it gave {self.value!r}"
        return ErrorCode(self.error.error_code)

    @property
    def took(self) -> float:
        """Seconds from its beginning to its end."""
        return self.ended - self.at


@dataclass(slots=True)
class Attempt:
    """One call of the callable; moments as :class:`Called` has them."""

    began: float
    args: tuple[Any, ...]
    ended: float | None = None


class Play:
    """
    A scripted callable behind a stack of the given layers.

    The script says what one attempt after the other does, the last step again and again. :meth:`call` and
    :meth:`at` plan; :meth:`go` makes it all happen, and nothing may be left over.

    Args:
        world: ``sync`` or ``async``.
        steps: The script.
        seed: In the sync world, which thread goes on where several could.
        lines: In the sync world, the lines of the engine that threads run between two switches, on average; with 0
            they change only where they wait or lock.
        plain: In the sync world, the callable doesn't read its limits: nothing can end it.
        options: Further options of the guard.
        find_function: Finds the functions that the policy names.
        layers: The layers, as TargetPolicy has them.
    """

    def __init__(
        self,
        world: str,
        *steps: Step,
        seed: int = 0,
        lines: int = 0,
        plain: bool = False,
        options: dict[str, Any] | None = None,
        functions: dict[str, Callable[..., Any]] | None = None,
        **layers: Any,
    ) -> None:
        self.world = world
        self.clock: Any = LoopClock(START) if world == "async" else SoakClock()
        self.stepper = Stepper(self.clock, Random(seed), lines=lines, stepped=is_engine)
        self.events: list[Event] = []
        self.attempts: list[Attempt] = []
        self._steps = steps
        self._plan: list[Called | tuple[float, Callable[[], Any]]] = []
        self.stack = Stack(
            TARGET,
            TargetPolicy(**layers),
            clock=self.clock,
            emit=self.events.append,
            find_function=(functions or {}).__getitem__,
        )
        if world == "async":
            function: Any = self._function_async
        else:
            function = self._function_plain if plain else self._function_cooperative
        options = {"cooperative": not plain, **(options or {})}
        if self.stack.caches:
            options.setdefault("key", lambda *args: args)
        self.guarded = guard(self.stack, function, **options)

    # What the case plans, and sees

    def call(self, *args: Any, at: float = 0.0, within: float | None = None) -> Called:
        """A call that begins at the moment *at*; *within* so many seconds that its caller has left."""
        called = Called(at, args, within)
        self._plan.append(called)
        return called

    def at(self, moment: float, function: Callable[[], Any]) -> None:
        """Have *function* look, at *moment*."""
        self._plan.append((moment, function))

    def go(self) -> None:
        """Carry the plan out, to the end of all that it starts."""
        plan, self._plan = self._plan, []
        if self.world == "async":
            run_virtual(self.clock, self._main(plan))
        else:
            with stepped_by(self.stepper):
                for item in plan:
                    self.stepper.spawn(lambda item=item: self._carry_out(item))
                self.stepper.run()
            assert not self.stepper.problems
        assert all(attempt.ended is not None for attempt in self.attempts)

    def run(self, *args: Any, at: float | None = None) -> Called:
        """One call, now or at a moment, to its end."""
        called = self.call(*args, at=self.now if at is None else at)
        self.go()
        return called

    @property
    def now(self) -> float:
        """Seconds since the beginning of the case."""
        return float(self.clock.monotonic() - START)

    @property
    def calls(self) -> int:
        """How often the callable was called."""
        return len(self.attempts)

    @property
    def began(self) -> list[float]:
        """When."""
        return [attempt.began for attempt in self.attempts]

    @property
    def in_use(self) -> int:
        """Slots of the bulkhead that are in use."""
        admission: Any = self.stack.admission
        return int(admission.bulkhead.in_use)

    @property
    def starts(self) -> list[float]:
        """The starts that the rate limit knows of."""
        admission: Any = self.stack.admission
        return [moment - START for moment in admission.rate_limit.starts]

    @property
    def breaker(self) -> Any:
        """The circuit breaker."""
        return self.stack.breaker

    def of(self, *kinds: type[Event]) -> list[Any]:
        """The events of these kinds."""
        return [event for event in self.events if isinstance(event, kinds)]

    # The worlds

    async def _main(self, plan: list[Any]) -> None:
        await asyncio.gather(*(asyncio.ensure_future(self._carry_out_async(item)) for item in plan))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def _carry_out_async(self, item: Any) -> None:
        if isinstance(item, tuple):
            await asyncio.sleep(item[0] - self.now)
            item[1]()
            return
        await asyncio.sleep(item.at - self.now)
        try:
            if item.within is None:
                item.outcome = await self.guarded.outcome(*item.args)
            else:

                async def order() -> Any:
                    return await self.guarded.outcome(*item.args)

                item.outcome = await guard(self._caller(item.within), order)()
        except Exception as error:  # noqa: BLE001 - the case looks at it
            item.error = error
        item.ended = self.now

    def _carry_out(self, item: Any) -> None:
        if isinstance(item, tuple):
            self._sleep(item[0] - self.now)
            item[1]()
            return
        self._sleep(item.at - self.now)
        try:
            if item.within is None:
                item.outcome = self.guarded.outcome(*item.args)
            else:

                def order() -> Any:
                    return self.guarded.outcome(*item.args)

                item.outcome = guard(self._caller(item.within), order, cooperative=True)()
        except Exception as error:  # noqa: BLE001 - the case looks at it
            item.error = error
        item.ended = self.now

    def _caller(self, deadline: float) -> Stack:
        return Stack("shop.order", TargetPolicy(deadline=deadline), clock=self.clock)

    def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.clock.sleep(seconds)

    # The callable

    def _begin(self, args: tuple[Any, ...]) -> tuple[Attempt, Step]:
        attempt, step = Attempt(self.now, args), self._steps[min(self.calls, len(self._steps) - 1)]
        self.attempts.append(attempt)
        return attempt, step

    async def _function_async(self, *args: Any) -> Any:
        attempt, step = self._begin(args)
        try:
            await asyncio.sleep(step.seconds)
            return step.end()
        except asyncio.CancelledError:
            if step.lingers:
                await asyncio.sleep(step.lingers)
            raise
        finally:
            attempt.ended = self.now

    def _function_cooperative(self, *args: Any) -> Any:
        attempt, step = self._begin(args)
        try:
            ends = self.clock.monotonic() + step.seconds
            while (left := ends - self.clock.monotonic()) > 0:
                limits = current_limits()
                remaining = limits.remaining()
                if remaining == 0.0:
                    self._sleep(step.lingers)
                    late = limits.deadline_passed()
                    code = ErrorCode.ERR_TIMEOUT_DEADLINE if late else ErrorCode.ERR_TIMEOUT_REQUEST
                    raise TimeoutError("its time is up", error_code=code)
                self.clock.sleep(min(left, SLICE, left if remaining is None else remaining))
            return step.end()
        finally:
            attempt.ended = self.now

    def _function_plain(self, *args: Any) -> Any:
        attempt, step = self._begin(args)
        try:
            self._sleep(step.seconds)
            return step.end()
        finally:
            attempt.ended = self.now


@contextlib.contextmanager
def playing(world: str, *, seed: int, lines: int) -> Iterator[Callable[..., Play]]:
    """Makes plays of *world*. The threads of the sync world are stepped, one at a time, in virtual time."""

    def make(*steps: Step, **layers: Any) -> Play:
        return Play(world, *steps, seed=seed, lines=lines, **layers)

    if world == "async":
        yield make
        return
    with replaced():
        yield make
