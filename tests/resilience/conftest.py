"""Both worlds for every case: what a callable does is written once and driven sync and async."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from diary import Diary

from pixel_llm.events import Event
from pixel_llm.policy import TargetPolicy
from pixel_llm.resilience import Stack, guard
from pixel_llm.testing import VirtualClock

TARGET = "shop.pay"


class Scripted:
    """What a callable does, call by call: raise an exception, call a function, or return a value."""

    def __init__(self, *steps: Any) -> None:
        self.steps = steps
        self.arguments: list[tuple[Any, ...]] = []

    @property
    def calls(self) -> int:
        return len(self.arguments)

    def __call__(self, *args: Any) -> Any:
        step = self.steps[min(self.calls, len(self.steps) - 1)]
        self.arguments.append(args)
        if isinstance(step, BaseException):
            raise step
        return step() if callable(step) else step


class SyncWorld:
    """Plain functions."""

    name = "sync"

    def function(self, body: Callable[..., Any]) -> Callable[..., Any]:
        def function(*args: Any) -> Any:
            return body(*args)

        return function

    def calling(self, guarded: Callable[..., Any], before: Callable[[], Any] = lambda: None) -> Callable[..., Any]:
        def function(*args: Any) -> Any:
            before()
            return guarded(*args)

        return function

    def run(self, guarded: Callable[..., Any], *args: Any) -> Any:
        return guarded(*args)

    def error_dies(self, guarded: Callable[..., Any]) -> bool:
        """Whether the error that *guarded* raises is gone as soon as its handler is left."""
        try:
            guarded()
        except Exception as error:  # noqa: BLE001 - whatever it is
            reference = weakref.ref(error)
        return reference() is None


class AsyncWorld:
    """Coroutine functions, each call in an event loop of its own."""

    name = "async"

    def function(self, body: Callable[..., Any]) -> Callable[..., Any]:
        async def function(*args: Any) -> Any:
            await asyncio.sleep(0)
            return body(*args)

        return function

    def calling(self, guarded: Callable[..., Any], before: Callable[[], Any] = lambda: None) -> Callable[..., Any]:
        async def function(*args: Any) -> Any:
            before()
            return await guarded(*args)

        return function

    def run(self, guarded: Callable[..., Any], *args: Any) -> Any:
        async def main() -> Any:
            return await guarded(*args)

        return asyncio.run(main())

    def error_dies(self, guarded: Callable[..., Any]) -> bool:
        """Whether the error that *guarded* raises is gone as soon as its handler is left."""

        async def main() -> bool:
            try:
                await guarded()
            except Exception as error:  # noqa: BLE001 - whatever it is
                reference = weakref.ref(error)
            return reference() is None

        return asyncio.run(main())


@pytest.fixture(params=[SyncWorld(), AsyncWorld()], ids=lambda world: world.name)
def world(request: pytest.FixtureRequest) -> Any:
    """The world a case is driven in: each case runs once in either."""
    return request.param


@pytest.fixture
def clock() -> VirtualClock:
    """Starts at a moment that binary fractions can't hold, so that rounding shows."""
    return VirtualClock(1000.1)


@pytest.fixture
def events() -> list[Event]:
    """What the stacks of the case have reported."""
    return []


@pytest.fixture
def make_stack(clock: VirtualClock, events: list[Event]) -> Callable[..., Stack]:
    """Compiles a stack from the layers of a TargetPolicy, and the functions that they name."""

    def make(target: str = TARGET, *, functions: dict[str, Callable[..., Any]] | None = None, **layers: Any) -> Stack:
        named = (functions or {}).__getitem__
        return Stack(target, TargetPolicy(**layers), clock=clock, emit=events.append, find_function=named)

    return make


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted


@pytest.fixture
def tracer() -> Diary:
    """Sees the calls of :func:`traced_stack`."""
    return Diary()


@pytest.fixture
def traced_stack(tracer: Diary, clock: VirtualClock, events: list[Event]) -> Callable[..., Stack]:
    """Like :func:`make_stack`, with a tracer."""

    def make(*, functions: dict[str, Callable[..., Any]] | None = None, **layers: Any) -> Stack:
        named = (functions or {}).__getitem__
        return Stack(
            TARGET, TargetPolicy(**layers), clock=clock, emit=events.append, find_function=named, tracer=tracer
        )

    return make


class Both:
    """A scripted callable behind a stack, in one world."""

    def __init__(self, world: Any, stack: Stack, *steps: Any, **options: Any) -> None:
        options.setdefault("cooperative", True)
        self.script = Scripted(*steps)
        self.stack = stack
        self.guarded = guard(stack, world.function(self.script), **options)
        self._world = world

    def __call__(self, *args: Any) -> Any:
        return self._world.run(self.guarded, *args)

    def outcome(self, *args: Any) -> Any:
        return self._world.run(self.guarded.outcome, *args)

    @property
    def calls(self) -> int:
        return self.script.calls


@pytest.fixture
def both_worlds(world: Any, make_stack: Callable[..., Stack]) -> Callable[..., Both]:
    """Puts a stack of the given layers around a scripted callable of the case's world."""

    def make(*steps: Any, options: dict[str, Any] | None = None, stack: Stack | None = None, **layers: Any) -> Both:
        return Both(world, stack or make_stack(**layers), *steps, **(options or {}))

    return make
