"""
What a guarded callable is bound to, and how it is bound anew: when a policy is loaded again, when stacks are
switched off in a test, and when a guard was made before the policy was loaded.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

from pixel_llm.resilience.breaker.circuit_breaker import CircuitBreaker
from pixel_llm.resilience.breaker.no_breaker import NO_SHORT_ROAD, NoBreaker
from pixel_llm.resilience.limits import NO_TERMS
from pixel_llm.resilience.outcome import SERVED_BY_CALL, Outcome
from pixel_llm.resilience.stack import Stack


class Road:
    """
    The way of a callable to its end; those of the async world give awaitables.

    Here its gate sends every call to :attr:`go`. A road that calls may take in the body of their guard, the short
    road, has the gate of its stack.

    Attributes:
        monotonic: Gives the moment that it is.
        gate: Its ``closed_period`` is below 0 for calls that must not take the short road; see :class:`NoBreaker`.
        latencies: The counters that calls on the short road step; see :class:`Counters`.
        ends_after: Seconds after which an attempt, begun with its call, must be over; inf without a limit.
        deadline: Seconds after which the call must be over.
        terms: The limits of a call, but for the moments.
        function: What is called.
        stack: What it leads through, if anything.
    """

    __slots__ = ("deadline", "ends_after", "function", "gate", "latencies", "monotonic", "stack", "terms")

    #: Carries a call that began at a certain moment to its end, from its arguments and that moment.
    go: Callable[[tuple[Any, ...], dict[str, Any], float], Any]
    #: The same, giving its :class:`Outcome`.
    outcome: Callable[[tuple[Any, ...], dict[str, Any], float], Any]
    #: Goes on with a call whose first attempt ended in a failure, with a permit, on the short road; where there is one.
    after: Callable[[Exception, int, tuple[Any, ...], dict[str, Any], float], Any]

    def __init__(self, function: Callable[..., Any], stack: Stack | None = None) -> None:
        self.function = function
        self.stack: Any = stack
        self.gate: CircuitBreaker | NoBreaker = NO_SHORT_ROAD
        if stack is None:
            self.monotonic: Callable[[], float] = time.monotonic
            self.latencies: list[Any] = []
            self.ends_after = self.deadline = inf
            self.terms = NO_TERMS
        else:
            self.monotonic, self.latencies = stack.clock.monotonic, stack.counters.latencies
            self.ends_after, self.deadline = stack.timing.ends_after, stack.timing.deadline
            self.terms = stack.timing.terms


class Binding:
    """
    Binds one guard to roads. Safe for concurrent use.

    Binding anew is two steps, so that many guards can be bound or none: :meth:`prepare` may fail, :meth:`take`
    can't. Calls that are under way end on the road they began on.

    Args:
        make_road: Makes the guard's road through a stack.
        off_road: Leads to the callable itself, without any stack.
    """

    __slots__ = ("__weakref__", "_make_road", "_off_road", "_road", "_switch")

    def __init__(self, make_road: Callable[[Stack], Road], off_road: Road, road: Road) -> None:
        self._make_road = make_road
        self._off_road = off_road
        self._road = road
        self._switch: Callable[[Road], None] = _nowhere

    def connect(self, switch: Callable[[Road], None]) -> None:
        """Have *switch* put the guard on a road, from now on."""
        with _lock:
            self._switch = switch
            _bindings.add(self)
            switch(self._off_road if _off else self._road)

    def prepare(self, stack: Stack) -> Road:
        """
        The guard's road through *stack*.

        Raises:
            ValidationError: If the callable can't be guarded as the stack asks.
        """
        return self._make_road(stack)

    def take(self, road: Road) -> None:
        """Send calls along *road* from now on."""
        with _lock:
            self._road = road
            if not _off:
                self._switch(road)

    def switch_off(self, off: bool) -> None:
        """Send calls to the callable itself, or along their road again. Called with the lock held."""
        self._switch(self._off_road if off else self._road)


def _nowhere(road: Road) -> None:
    """The switch of a binding that has no guard yet."""


_lock = threading.RLock()
_bindings: weakref.WeakSet[Binding] = weakref.WeakSet()
_off = 0


@contextmanager
def switched_off() -> Iterator[None]:
    """Send the calls of every guard of this process to its callable, for as long as the context lasts."""
    _switch_off(+1)
    try:
        yield
    finally:
        _switch_off(-1)


def _switch_off(more: int) -> None:
    global _off
    with _lock:
        before, _off = _off, _off + more
        if bool(before) != bool(_off):
            for binding in _bindings:
                binding.switch_off(bool(_off))


class OffRoad(Road):
    """The way to a sync callable that no stack is around."""

    def go(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Any:
        """Call it."""
        return self.function(*args, **kwargs)

    def outcome(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Outcome[Any]:
        """Call it, and say that it served."""
        return _served(self.function(*args, **kwargs), started)


class AsyncOffRoad(OffRoad):
    """The same of an async callable."""

    async def outcome(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Outcome[Any]:  # type: ignore[override]
        """Await it, and say that it served."""
        return _served(await self.function(*args, **kwargs), started)


def _served(value: Any, started: float) -> Outcome[Any]:
    elapsed = time.monotonic() - started
    return Outcome(value=value, served_by=SERVED_BY_CALL, degraded=False, attempts=1, elapsed=elapsed)


class UnboundRoad(Road):
    """
    The way of a callable whose stack is not known yet: the first call looks for it.

    Args:
        function: The callable.
        bind: Binds the guard and gives its road; see :meth:`Binding.take`.
    """

    __slots__ = ("_bind",)

    def __init__(self, function: Callable[..., Any], bind: Callable[[], Road]) -> None:
        super().__init__(function)
        self._bind = bind

    def go(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Any:
        """Bind the guard and go on along its road."""
        road = self._bind()
        return road.go(args, kwargs, road.monotonic())

    def outcome(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Any:
        """The same, giving its outcome."""
        road = self._bind()
        return road.outcome(args, kwargs, road.monotonic())
