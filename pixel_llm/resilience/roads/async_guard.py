"""The async world: a coroutine function run through a stack. :mod:`sync_guard` is its twin."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from math import inf
from types import FunctionType, MethodType
from typing import Any

from pixel_llm.errors import CircuitBreakerOpen, PixelLMError
from pixel_llm.resilience.breaker.no_breaker import NO_SHORT_ROAD
from pixel_llm.resilience.caching import read_through
from pixel_llm.resilience.call import Call
from pixel_llm.resilience.fallbacks.remote import remote_steps, serve_async
from pixel_llm.resilience.limits import (
    NO_TERMS,
    Published,
    Terms,
    get_published,
    lift,
    reset_published,
    set_published,
    take_back,
)
from pixel_llm.resilience.outcome import Outcome
from pixel_llm.resilience.recovery import Recovery, refuse
from pixel_llm.resilience.roads.binding import AsyncOffRoad, Binding, Road
from pixel_llm.resilience.roads.options import GuardOptions
from pixel_llm.resilience.roads.stepping import DONE, Step, into, into_last, rest, rest_within
from pixel_llm.resilience.stack import Stack


class AsyncRoad(Road):
    """
    The way of an async *function* through *stack*, whatever happens on it.

    A policy that is loaded again gives guards a new road; calls that are under way end on the old one.
    """

    __slots__ = ("_find_breaker", "_keep", "_make_key", "_remote")

    def __init__(self, stack: Stack, function: Callable[..., Any], options: GuardOptions) -> None:
        super().__init__(function, stack)
        self._make_key, self._keep = options.key_maker(stack), options.keeper(stack)
        self._remote = remote_steps(stack, options, guard_alone, is_async=True)
        self._find_breaker = stack.find_breaker(options.breaker_key, function)
        called = stack.around(function, is_async=True)
        self.function = _coroutine_function(called)
        if self._make_key is self._find_breaker is None and called is function and stack.admission is None:
            self.gate = stack.gate

    async def go(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Any:
        """Carry a call that began at the moment *started* to its end."""
        if self.gate is not NO_SHORT_ROAD and self.stack.refusal_is_final:
            try:  # an open breaker refuses thousands of calls a second: nothing is made for them
                self.gate.check()
            except CircuitBreakerOpen as refusal:
                refuse(self.stack, started, refusal)
                raise
        return await self.run(self.begin(args, kwargs, started))

    async def outcome(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Outcome[Any]:
        """The same, giving its outcome."""
        call = self.begin(args, kwargs, started)
        value = await self.run(call)
        return call.outcome(value, self.monotonic())

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Call:
        """A call with these arguments, which began at the moment *started*."""
        key = self._make_key(args, kwargs) if self._make_key is not None else None
        call: Call = self.stack.begin(args, kwargs, key, started)
        if self._find_breaker is not None:
            call.gate = self._find_breaker(args, kwargs)
        return call

    async def run(self, call: Call, failure: Exception | None = None) -> Any:
        """Carry *call* to its end. Its first attempt may have ended in *failure* already."""
        stack, clock = self.stack, self.stack.clock
        if stack.cache is not None and call.ticket is None:
            return await read_through.run_async(self, stack.cache, call)
        recovery = None
        refused = False
        try:
            while True:
                if failure is None:
                    try:
                        permit = stack.enter_at_once(call)
                        if permit is None:
                            permit = await stack.queue_async(call)
                    except PixelLMError as refusal:
                        if recovery is None and stack.refusal_is_final:
                            refuse(stack, call.started, refusal)
                            raise
                        failure, refused = refusal, True
                    else:
                        try:
                            value = await self._round(call, permit)
                        except Exception as error:  # noqa: BLE001 - whatever it is, the recovery decides
                            failure, refused = error, False
                        else:
                            self._count_success(call, recovery, value)
                            return value
                if recovery is None:
                    recovery = Recovery(stack, call)
                wait = recovery.after_refusal(failure) if refused else recovery.after_failure(failure)
                if wait is None:
                    if self._remote is not None:
                        return await serve_async(self._remote, recovery, call, failure)
                    return recovery.finish(failure)
                failure = None
                if wait > 0:
                    await clock.sleep_async(wait)
                call.attempt_started = clock.monotonic()
        finally:
            del failure  # its traceback holds this frame: a cycle

    async def give_up(self, call: Call, failure: Exception, reason: str) -> Any:
        """End a call that was never tried, because one like it has ended in *failure*: for *reason*."""
        try:
            recovery = Recovery(self.stack, call)
            recovery.give_up(reason)
            if self._remote is not None:
                return await serve_async(self._remote, recovery, call, failure)
            return recovery.finish(failure)
        finally:
            del failure  # its traceback holds this frame: a cycle

    async def after(
        self, failure: Exception, permit: int, args: tuple[Any, ...], kwargs: dict[str, Any], started: float
    ) -> Any:
        """Go on with a call whose first attempt ended in *failure* on the short road."""
        try:
            call = self.stack.begin(args, kwargs, None, started)
            call.attempts = 1
            self.stack.settle(call, permit, failure)
            return await self.run(call, failure)
        finally:
            del failure

    def _round(self, call: Call, permit: int) -> Awaitable[Any]:
        """What lies between two waits of the retry layer: one attempt."""
        return self._attempt(call, permit) if self.stack.admission is None else self._attempt_in_slot(call, permit)

    def _count_success(self, call: Call, recovery: Recovery | None, value: Any) -> None:
        """Count *call*, whose last attempt gave *value*."""
        if recovery is None:
            self.stack.counters.record_success(self.stack.clock.monotonic() - call.started)
        else:
            recovery.recovered()

    async def _attempt(self, call: Call, permit: int) -> Any:
        """Call the function once, and settle with the breaker."""
        stack = self.stack
        call.attempts += 1
        limits = stack.timing.limits_of(call)
        token = set_published(limits)
        box: list[Any] = []
        try:
            step = into(box, self.function(*call.args, **call.kwargs))
            suspended = next(step, DONE)
            if suspended is not DONE:
                await _wait(stack, step, suspended, limits)
        except Exception as error:
            reset_published(token)
            stack.settle(call, permit, error)
            raise
        except BaseException:
            take_back(token)
            call.gate.release(permit)
            raise
        reset_published(token)
        lift(limits)
        value = box[0]
        if call.gate.eventful:
            call.gate.record_success(permit, stack.clock.monotonic() - call.attempt_started)
        if self._keep is not None:
            self._keep(call.key, value)
        return value

    async def _attempt_in_slot(self, call: Call, permit: int) -> Any:
        """Like :meth:`_attempt`, with a bulkhead's slot, which goes back when the breaker has been told."""
        admission = self.stack.admission
        assert admission is not None  # noqa: S101 - see run()
        try:
            value = await self._attempt(call, permit)
        except BaseException as error:
            admission.leave_after(call.attempt_started, self.stack.says_of_load(call, error))
            raise
        admission.leave_after(call.attempt_started, True)
        admission.spend(value)
        return value


def guard_alone(stack: Stack, function: Callable[..., Awaitable[Any]], options: GuardOptions) -> Callable[..., Any]:
    """A guard of *function* for use inside a road: only ever bound to *stack*."""

    def make_road(stack: Stack) -> Road:
        return AsyncRoad(stack, function, options)

    return guard_async(function, Binding(make_road, AsyncOffRoad(function), make_road(stack)))


def guard_async(function: Callable[..., Awaitable[Any]], binding: Binding) -> Callable[..., Any]:
    """
    The guard of an async *function*. Deadline and timeout end it by cancellation.

    Its body is the short road; see :func:`pixel_llm.resilience.roads.sync_guard.guard_sync`.
    """
    # Everything that the short road needs of the current road, in variables of their own: looking each up on the
    # road would cost a twentieth of the call. switch() changes them together, without letting another thread in.
    road: Road
    monotonic: Callable[[], float]
    gate: Any
    latencies: Any
    ends_after: float
    deadline: float
    terms: Terms
    called: Callable[..., Any]

    @functools.wraps(function)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        taken, entered = road, gate  # what this call must end with, whatever is switched meanwhile
        started = monotonic()
        permit = entered.closed_period
        if permit < 0 or get_published()[2] is not NO_TERMS:
            return await taken.go(args, kwargs, started)
        limits = [started + ends_after, started + deadline, terms, 0, None]
        token = set_published(limits)
        try:
            step = into_last(limits, called(*args, **kwargs))
            suspended = next(step, DONE)
            if suspended is not DONE:
                await _wait(taken.stack, step, suspended, limits)
        except Exception as error:  # noqa: BLE001 - whatever it is, the recovery decides
            reset_published(token)
            failure = error
        except BaseException:
            take_back(token)
            entered.release(permit)
            raise
        else:
            limits[0] = limits[1] = inf  # lift(limits), which no longer have to be taken back
            limits[2] = NO_TERMS
            elapsed = monotonic() - started
            if entered.eventful:
                entered.record_success(permit, elapsed)
            next(latencies[(elapsed * 1e6).__trunc__().bit_length()])
            value, limits[4] = limits[4], None
            return value
        try:
            return await taken.after(failure, permit, args, kwargs, started)
        finally:
            del failure  # its traceback holds this frame: a cycle

    @functools.wraps(function)
    async def outcome(*args: Any, **kwargs: Any) -> Outcome[Any]:
        result: Outcome[Any] = await road.outcome(args, kwargs, monotonic())
        return result

    def switch(to: Road) -> None:
        nonlocal road, monotonic, gate, latencies, ends_after, deadline, terms, called
        road, monotonic, gate, latencies, called = to, to.monotonic, to.gate, to.latencies, to.function
        ends_after, deadline, terms = to.ends_after, to.deadline, to.terms

    binding.connect(switch)
    guarded.outcome = outcome  # type: ignore[attr-defined]
    guarded.binding = binding  # type: ignore[attr-defined]
    return guarded


def _wait(stack: Stack, step: Step, suspended: Any, limits: Published) -> Any:
    """What to await to go on with a step that has suspended, within *limits*."""
    return rest(step, suspended) if limits[0] == inf else rest_within(step, suspended, limits, stack.timing.cut)


def _coroutine_function(function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """*function*, which may return any awaitable, as one that returns coroutines."""
    if isinstance(function, FunctionType | MethodType) and inspect.iscoroutinefunction(function):
        code = getattr(function, "__code__", None)
        if code is not None and code.co_flags & inspect.CO_COROUTINE:
            return function

    async def call(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return call
