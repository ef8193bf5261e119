"""The async world: a coroutine function run through a stack. :mod:`sync_guard` is its twin."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from contextvars import Token
from math import inf
from types import FunctionType, MethodType
from typing import Any

from pixel_llm.errors import PixelLMError
from pixel_llm.resilience.call import Call
from pixel_llm.resilience.limits import NO_TERMS, Published, lift, reset_published, set_published, take_back
from pixel_llm.resilience.no_breaker import NO_SHORT_ROAD
from pixel_llm.resilience.options import GuardOptions
from pixel_llm.resilience.outcome import Outcome
from pixel_llm.resilience.recovery import Recovery, refuse
from pixel_llm.resilience.remote import remote_steps, serve_async
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.stepping import DONE, Step, into, rest, rest_within

#: The caller's limits, where there is no caller.
_NOBODY = Token.MISSING


class AsyncRoad:
    """
    The way of an async *function* through *stack*, whatever happens on it.

    A policy that is loaded again gives guards a new road; calls that are under way end on the old one.
    """

    __slots__ = (
        "_function",
        "_keep",
        "_make_key",
        "_remote",
        "deadline",
        "ends_after",
        "gate",
        "latencies",
        "stack",
        "terms",
    )

    def __init__(self, stack: Stack, function: Callable[..., Any], options: GuardOptions) -> None:
        self.stack = stack
        self._make_key, self._keep = options.key_maker(stack), options.keeper(stack)
        self._remote = remote_steps(stack, options, guard_async, is_async=True)
        self._function = function if stack.chaos is None else stack.chaos.around_async(function)
        # What the short road needs.
        self.gate = stack.gate if self._make_key is None and self._function is function else NO_SHORT_ROAD
        self.latencies, self.terms = stack.counters.latencies, stack.terms
        self.deadline, timeout = stack.deadline, stack.attempt_timeout
        self.ends_after = stack.deadline if timeout is None else min(stack.deadline, timeout)

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Call:
        """A call with these arguments, which began at the moment *started*."""
        key = self._make_key(args, kwargs) if self._make_key is not None else None
        return self.stack.begin(args, kwargs, key, started)

    async def run(self, call: Call, failure: Exception | None = None) -> Any:
        """Carry *call* to its end. Its first attempt may have ended in *failure* already."""
        stack, clock = self.stack, self.stack.clock
        recovery = None
        refused = False
        try:
            while True:
                if failure is None:
                    try:
                        permit = stack.enter(call)
                    except PixelLMError as refusal:
                        if recovery is None and stack.refusal_is_final:
                            refuse(stack, call, refusal)
                            raise
                        failure, refused = refusal, True
                    else:
                        try:
                            value = await self._attempt(call, permit)
                        except Exception as error:  # noqa: BLE001 - whatever it is, the recovery decides
                            failure, refused = error, False
                        else:
                            if recovery is None:
                                stack.counters.record_success(clock.monotonic() - call.started)
                            else:
                                recovery.recovered()
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

    async def _attempt(self, call: Call, permit: int) -> Any:
        """Call the function once, and settle with the breaker."""
        stack = self.stack
        call.attempts += 1
        limits = stack.limits_of(call)
        token = set_published(limits)
        box: list[Any] = []
        try:
            step = into(box, self._function(*call.args, **call.kwargs))
            suspended = next(step, DONE)
            if suspended is not DONE:
                await _wait(stack, step, suspended, limits)
        except Exception as error:
            reset_published(token)
            stack.settle(call, permit, error)
            raise
        except BaseException:
            take_back(token)
            stack.gate.release(permit)
            raise
        reset_published(token)
        lift(limits)
        value = box[0]
        if stack.gate.eventful:
            stack.gate.record_success(permit, stack.clock.monotonic() - call.attempt_started)
        if self._keep is not None:
            self._keep(call.key, value)
        return value


def guard_async(stack: Stack, function: Callable[..., Awaitable[Any]], options: GuardOptions) -> Callable[..., Any]:
    """
    Put *stack* around an async *function*. Deadline and timeout end it by cancellation.

    Its body is the short road; see :func:`pixel_llm.resilience.sync_guard.guard_sync`.
    """
    monotonic = stack.clock.monotonic
    invoke = _coroutine_function(function)
    current = AsyncRoad(stack, invoke, options)

    @functools.wraps(function)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        road = current
        gate = road.gate
        started = monotonic()
        permit = gate.closed_period
        if permit < 0:
            return await road.run(road.begin(args, kwargs, started))
        limits = [started + road.ends_after, started + road.deadline, road.terms, 0]
        token = set_published(limits)
        if token.old_value is not _NOBODY and token.old_value[2] is not NO_TERMS:
            reset_published(token)
            return await road.run(road.begin(args, kwargs, started))
        box: list[Any] = []
        try:
            step = into(box, invoke(*args, **kwargs))
            suspended = next(step, DONE)
            if suspended is not DONE:
                await _wait(road.stack, step, suspended, limits)
        except Exception as error:  # noqa: BLE001 - whatever it is, the recovery decides
            reset_published(token)
            failure = error
        except BaseException:
            take_back(token)
            gate.release(permit)
            raise
        else:
            limits[0] = limits[1] = inf  # lift(limits), which no longer have to be taken back
            limits[2] = NO_TERMS
            elapsed = monotonic() - started
            if gate.eventful:
                gate.record_success(permit, elapsed)
            next(road.latencies[(elapsed * 1e6).__trunc__().bit_length()])
            return box[0]
        try:
            return await road.after(failure, permit, args, kwargs, started)
        finally:
            del failure  # its traceback holds this frame: a cycle

    @functools.wraps(function)
    async def outcome(*args: Any, **kwargs: Any) -> Outcome[Any]:
        road = current
        call = road.begin(args, kwargs, monotonic())
        return call.outcome(await road.run(call), monotonic())

    def bind(stack: Stack) -> None:
        nonlocal current
        current = AsyncRoad(stack, invoke, options)

    guarded.outcome = outcome  # type: ignore[attr-defined]
    guarded.target = stack.target  # type: ignore[attr-defined]
    guarded.bind = bind  # type: ignore[attr-defined]
    return guarded


async def _wait(stack: Stack, step: Step, suspended: Any, limits: Published) -> None:
    """Go on with a step that has suspended, within *limits*."""
    if limits[0] == inf:
        await rest(step, suspended)
    else:
        remaining = limits[0] - stack.clock.monotonic()
        await rest_within(step, suspended, remaining, limits[3], functools.partial(stack.cut, limits))


def _coroutine_function(function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """*function*, which may return any awaitable, as one that returns coroutines."""
    if isinstance(function, FunctionType | MethodType) and inspect.iscoroutinefunction(function):
        code = getattr(function, "__code__", None)
        if code is not None and code.co_flags & inspect.CO_COROUTINE:
            return function

    async def call(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return call
