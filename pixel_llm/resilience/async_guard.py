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
from pixel_llm.resilience.options import GuardOptions
from pixel_llm.resilience.outcome import Outcome
from pixel_llm.resilience.recovery import Recovery, refuse
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.stepping import DONE, Step, into, rest, rest_within

#: The caller's limits, where there is no caller.
_NOBODY = Token.MISSING


def guard_async(stack: Stack, function: Callable[..., Awaitable[Any]], options: GuardOptions) -> Callable[..., Any]:
    """Put *stack* around an async *function*. Deadline and timeout end it by cancellation."""
    clock, gate, counters = stack.clock, stack.gate, stack.counters
    make_key, keep = options.key_maker(stack), options.keeper(stack)
    invoke = _coroutine_function(function)

    async def attempt(call: Call, permit: int) -> Any:
        """Call the function once, and settle with the breaker."""
        call.attempts += 1
        limits = stack.limits_of(call)
        token = set_published(limits)
        box: list[Any] = []
        try:
            step = into(box, invoke(*call.args, **call.kwargs))
            suspended = next(step, DONE)
            if suspended is not DONE:
                await _wait(stack, step, suspended, limits)
        except Exception as error:
            reset_published(token)
            stack.settle(call, permit, error)
            raise
        except BaseException:
            take_back(token)
            gate.release(permit)
            raise
        reset_published(token)
        lift(limits)
        value = box[0]
        if gate.eventful:
            gate.record_success(permit, clock.monotonic() - call.attempt_started)
        if keep is not None:
            keep(call.key, value)
        return value

    async def run(call: Call, failure: Exception | None = None) -> Any:
        """Carry *call* to its end. Its first attempt may have ended in *failure* already."""
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
                            value = await attempt(call, permit)
                        except Exception as error:  # noqa: BLE001 - whatever it is, the recovery decides
                            failure, refused = error, False
                        else:
                            if recovery is None:
                                counters.record_success(clock.monotonic() - call.started)
                            else:
                                recovery.recovered()
                            return value
                if recovery is None:
                    recovery = Recovery(stack, call)
                wait = recovery.after_refusal(failure) if refused else recovery.after_failure(failure)
                if wait is None:
                    return recovery.finish(failure)
                failure = None
                if wait > 0:
                    await clock.sleep_async(wait)
                call.attempt_started = clock.monotonic()
        finally:
            del failure  # its traceback holds this frame: a cycle

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        key = make_key(args, kwargs) if make_key is not None else None
        return stack.begin(args, kwargs, key, clock.monotonic())

    @functools.wraps(function)
    async def outcome(*args: Any, **kwargs: Any) -> Outcome[Any]:
        call = begin(args, kwargs)
        return call.outcome(await run(call), clock.monotonic())

    if make_key is None:
        guarded = _lean(stack, function, invoke, run)
    else:

        @functools.wraps(function)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            return await run(begin(args, kwargs))

    guarded.outcome = outcome  # type: ignore[attr-defined]
    guarded.target = stack.target  # type: ignore[attr-defined]
    return guarded


def _lean(
    stack: Stack, function: Callable[..., Any], invoke: Callable[..., Any], run: Callable[..., Awaitable[Any]]
) -> Callable[..., Any]:
    """The short road; see :func:`pixel_llm.resilience.sync_guard._lean`."""
    monotonic, gate, latencies = stack.clock.monotonic, stack.gate, stack.counters.latencies
    deadline, terms, attempt_timeout = stack.deadline, stack.terms, stack.attempt_timeout
    ends_after = deadline if attempt_timeout is None else min(deadline, attempt_timeout)

    def the_long_road(args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Awaitable[Any]:
        return run(stack.begin(args, kwargs, None, started))

    async def go_on(
        failure: Exception, permit: int, args: tuple[Any, ...], kwargs: dict[str, Any], started: float
    ) -> Any:
        try:
            call = stack.begin(args, kwargs, None, started)
            call.attempts = 1
            stack.settle(call, permit, failure)
            return await run(call, failure)
        finally:
            del failure  # its traceback holds this frame: a cycle

    @functools.wraps(function)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        started = monotonic()
        permit = gate.closed_period
        if permit < 0:
            return await the_long_road(args, kwargs, started)
        limits = [started + ends_after, started + deadline, terms, 0]
        token = set_published(limits)
        if token.old_value is not _NOBODY and token.old_value[2] is not NO_TERMS:
            reset_published(token)
            return await the_long_road(args, kwargs, started)
        box: list[Any] = []
        try:
            step = into(box, invoke(*args, **kwargs))
            suspended = next(step, DONE)
            if suspended is not DONE:
                await _wait(stack, step, suspended, limits)
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
            next(latencies[(elapsed * 1e6).__trunc__().bit_length()])
            return box[0]
        try:
            return await go_on(failure, permit, args, kwargs, started)
        finally:
            del failure

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
