"""The async world: a coroutine function run through a stack. :mod:`sync_guard` is its twin."""

from __future__ import annotations

import asyncio
import builtins
import functools
from collections.abc import Awaitable, Callable
from typing import Any

from pixel_llm.resilience.limits import Limits, limits_variable
from pixel_llm.resilience.options import GuardOptions
from pixel_llm.resilience.outcome import SERVED_BY_CALL, Outcome
from pixel_llm.resilience.recovery import Recovery
from pixel_llm.resilience.stack import Stack


def guard_async(stack: Stack, function: Callable[..., Awaitable[Any]], options: GuardOptions) -> Callable[..., Any]:
    """Put *stack* around an async *function*. Deadline and timeout end it by cancellation."""
    clock = stack.clock
    make_key, keep = options.key_maker(stack), options.keeper(stack)

    async def attempt(
        call: Limits, started: float, first: bool, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        permit = stack.admit(call)
        limits = stack.attempt_limits(call, started)
        token = limits_variable.set(limits)
        try:
            value = await _within(stack, limits, function, args, kwargs)
        except Exception as error:
            stack.settle(permit, error, limits, first=first)
            raise
        except BaseException:
            stack.release(permit)
            raise
        finally:
            limits_variable.reset(token)
        stack.succeed(permit)
        if keep is not None:
            keep(key, value)
        return value

    async def recover(
        call: Limits, started: float, error: Exception, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Outcome[Any]:
        recovery = Recovery(stack, call, started)
        try:
            while (wait := recovery.next_wait(error)) is not None:
                if wait > 0:
                    await clock.sleep_async(wait)
                recovery.begin_attempt()
                try:
                    return recovery.recovered(await attempt(call, recovery.attempt_started, False, key, args, kwargs))
                except Exception as raised:  # noqa: BLE001 - whatever it is, the recovery decides
                    error = raised
            return recovery.finish(error, key)
        finally:
            del error

    @functools.wraps(function)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        key = make_key(args, kwargs) if make_key is not None else None
        started = clock.monotonic()
        call = stack.open_limits(started)
        try:
            return await attempt(call, started, True, key, args, kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it is, the recovery decides
            failure = error
        try:
            return (await recover(call, started, failure, key, args, kwargs)).value
        finally:
            del failure  # its traceback holds this frame: a cycle

    @functools.wraps(function)
    async def outcome(*args: Any, **kwargs: Any) -> Outcome[Any]:
        key = make_key(args, kwargs) if make_key is not None else None
        started = clock.monotonic()
        call = stack.open_limits(started)
        try:
            value = await attempt(call, started, True, key, args, kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it is, the recovery decides
            failure = error
        else:
            elapsed = clock.monotonic() - started
            return Outcome(value=value, served_by=SERVED_BY_CALL, degraded=False, attempts=1, elapsed=elapsed)
        try:
            return await recover(call, started, failure, key, args, kwargs)
        finally:
            del failure

    guarded.outcome = outcome  # type: ignore[attr-defined]
    guarded.target = stack.target  # type: ignore[attr-defined]
    return guarded


async def _within(
    stack: Stack,
    limits: Limits,
    function: Callable[..., Awaitable[Any]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Await *function* within *limits*."""
    remaining = limits.remaining()
    if remaining is None:
        return await function(*args, **kwargs)
    scope = asyncio.timeout(remaining)
    try:
        async with scope:
            return await function(*args, **kwargs)
    except builtins.TimeoutError as error:
        if scope.expired() and type(error) is builtins.TimeoutError:
            raise stack.cut(limits) from error
        raise
