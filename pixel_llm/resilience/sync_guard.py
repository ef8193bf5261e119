"""The sync world: a callable run through a stack. :mod:`async_guard` is its twin."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from pixel_llm.errors import ValidationError
from pixel_llm.resilience.limits import Limits, limits_variable
from pixel_llm.resilience.options import GuardOptions
from pixel_llm.resilience.outcome import SERVED_BY_CALL, Outcome
from pixel_llm.resilience.recovery import Recovery
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.worker import in_worker

_RUNS_LATER = frozenset({CoroutineType, GeneratorType, AsyncGeneratorType})


def runs_later(stack: Stack, value: Any) -> ValidationError:
    """The error of a sync function whose result is code that is yet to run: it would run unguarded."""
    if isinstance(value, CoroutineType):
        value.close()
    kind = type(value).__name__.replace("_", " ")
    return ValidationError(
        f"the function returned the {kind} of {value.__qualname__}, which would run unguarded: guard that one itself",
        target=stack.target,
    )


def guard_sync(stack: Stack, function: Callable[..., Any], options: GuardOptions) -> Callable[..., Any]:
    """Put *stack* around a sync *function*."""
    clock = stack.clock
    make_key, keep = options.key_maker(stack), options.keeper(stack)
    # A plain function can't be interrupted: a timeout buys it a thread, a deadline alone is
    # checked between attempts.
    threaded = stack.attempt_timeout is not None and not options.cooperative
    invoke = in_worker(stack, function) if threaded else function

    def attempt(
        call: Limits, started: float, first: bool, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        permit = stack.admit(call)
        limits = stack.attempt_limits(call, started)
        token = limits_variable.set(limits)
        try:
            value = invoke(*args, **kwargs)
            if type(value) in _RUNS_LATER:
                raise runs_later(stack, value)
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

    def recover(
        call: Limits, started: float, error: Exception, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Outcome[Any]:
        recovery = Recovery(stack, call, started)
        try:
            while (wait := recovery.next_wait(error)) is not None:
                if wait > 0:
                    clock.sleep(wait)
                recovery.begin_attempt()
                try:
                    return recovery.recovered(attempt(call, recovery.attempt_started, False, key, args, kwargs))
                except Exception as raised:  # noqa: BLE001 - whatever it is, the recovery decides
                    error = raised
            return recovery.finish(error, key)
        finally:
            del error

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        key = make_key(args, kwargs) if make_key is not None else None
        started = clock.monotonic()
        call = stack.open_limits(started)
        try:
            return attempt(call, started, True, key, args, kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it is, the recovery decides
            failure = error
        try:
            return recover(call, started, failure, key, args, kwargs).value
        finally:
            del failure  # its traceback holds this frame: a cycle

    @functools.wraps(function)
    def outcome(*args: Any, **kwargs: Any) -> Outcome[Any]:
        key = make_key(args, kwargs) if make_key is not None else None
        started = clock.monotonic()
        call = stack.open_limits(started)
        try:
            value = attempt(call, started, True, key, args, kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it is, the recovery decides
            failure = error
        else:
            elapsed = clock.monotonic() - started
            return Outcome(value=value, served_by=SERVED_BY_CALL, degraded=False, attempts=1, elapsed=elapsed)
        try:
            return recover(call, started, failure, key, args, kwargs)
        finally:
            del failure

    guarded.outcome = outcome  # type: ignore[attr-defined]
    guarded.target = stack.target  # type: ignore[attr-defined]
    return guarded
