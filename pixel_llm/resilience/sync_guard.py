"""The sync world: a callable run through a stack. :mod:`async_guard` is its twin."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import CoroutineType
from typing import Any

from pixel_llm.errors import ValidationError
from pixel_llm.resilience.limits import Limits, limits_variable
from pixel_llm.resilience.options import GuardOptions
from pixel_llm.resilience.outcome import SERVED_BY_CALL, Outcome
from pixel_llm.resilience.recovery import Recovery
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.worker import in_worker


def unawaited(stack: Stack, coroutine: CoroutineType[Any, Any, Any]) -> ValidationError:
    """The error of a sync function that gives a coroutine: awaited by the caller, it would run unguarded."""
    coroutine.close()
    return ValidationError(
        f"the function returned the coroutine of {coroutine.__qualname__}: guard the async function itself",
        target=stack.target,
    )


def guard_sync(stack: Stack, function: Callable[..., Any], options: GuardOptions) -> Callable[..., Any]:
    """Put *stack* around a sync *function*."""
    clock = stack.clock
    remember = options.remember(stack)
    # A plain function can't be interrupted: a timeout buys it a thread, a deadline alone is
    # checked between attempts.
    threaded = stack.attempt_timeout is not None and not options.cooperative
    invoke = in_worker(stack, function) if threaded else function

    def attempt(call: Limits, started: float, first: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        permit = stack.admit(call)
        limits = stack.attempt_limits(call, started)
        token = limits_variable.set(limits)
        try:
            value = invoke(*args, **kwargs)
            if type(value) is CoroutineType:
                raise unawaited(stack, value)
        except Exception as error:
            stack.settle(permit, error, limits, first=first)
            raise
        except BaseException:
            stack.release(permit)
            raise
        finally:
            limits_variable.reset(token)
        stack.succeed(permit)
        if remember is not None:
            remember(value, args, kwargs)
        return value

    def recover(
        call: Limits, started: float, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Outcome[Any]:
        recovery = Recovery(stack, call, started)
        try:
            while (wait := recovery.next_wait(error)) is not None:
                if wait > 0:
                    clock.sleep(wait)
                recovery.begin_attempt()
                try:
                    return recovery.recovered(attempt(call, recovery.attempt_started, False, args, kwargs))
                except Exception as raised:  # noqa: BLE001 - whatever it is, the recovery decides
                    error = raised
            return recovery.finish(error, options.bound_key(args, kwargs))
        finally:
            del error

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        started = clock.monotonic()
        call = stack.open_limits(started)
        try:
            return attempt(call, started, True, args, kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it is, the recovery decides
            failure = error
        try:
            return recover(call, started, failure, args, kwargs).value
        finally:
            del failure  # its traceback holds this frame: a cycle

    @functools.wraps(function)
    def outcome(*args: Any, **kwargs: Any) -> Outcome[Any]:
        started = clock.monotonic()
        call = stack.open_limits(started)
        try:
            value = attempt(call, started, True, args, kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it is, the recovery decides
            failure = error
        else:
            elapsed = clock.monotonic() - started
            return Outcome(value=value, served_by=SERVED_BY_CALL, degraded=False, attempts=1, elapsed=elapsed)
        try:
            return recover(call, started, failure, args, kwargs)
        finally:
            del failure

    guarded.outcome = outcome  # type: ignore[attr-defined]
    guarded.target = stack.target  # type: ignore[attr-defined]
    return guarded
