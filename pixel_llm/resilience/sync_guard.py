"""The sync world: a callable run through a stack. :mod:`async_guard` is its twin."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import Token
from math import inf
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from pixel_llm.errors import PixelLMError, ValidationError
from pixel_llm.resilience.call import Call
from pixel_llm.resilience.limits import NO_TERMS, lift, reset_published, set_published
from pixel_llm.resilience.options import GuardOptions
from pixel_llm.resilience.outcome import Outcome
from pixel_llm.resilience.recovery import Recovery, refuse
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.worker import in_worker

#: The caller's limits, where there is no caller.
_NOBODY = Token.MISSING
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
    clock, gate, counters = stack.clock, stack.gate, stack.counters
    make_key, keep = options.key_maker(stack), options.keeper(stack)
    # A plain function can't be interrupted: a timeout buys it a thread, a deadline alone is
    # checked between attempts.
    threaded = stack.attempt_timeout is not None and not options.cooperative
    invoke = in_worker(stack, function) if threaded else function

    def attempt(call: Call, permit: int) -> Any:
        """Call the function once, and settle with the breaker."""
        call.attempts += 1
        limits = stack.limits_of(call)
        token = set_published(limits)
        try:
            value = invoke(*call.args, **call.kwargs)
            if type(value) in _RUNS_LATER:
                raise runs_later(stack, value)
        except Exception as error:
            stack.settle(call, permit, error)
            raise
        except BaseException:
            gate.release(permit)
            raise
        finally:
            reset_published(token)
        lift(limits)
        if gate.eventful:
            gate.record_success(permit, clock.monotonic() - call.attempt_started)
        if keep is not None:
            keep(call.key, value)
        return value

    def run(call: Call, failure: Exception | None = None) -> Any:
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
                            value = attempt(call, permit)
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
                    clock.sleep(wait)
                call.attempt_started = clock.monotonic()
        finally:
            del failure  # its traceback holds this frame: a cycle

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        key = make_key(args, kwargs) if make_key is not None else None
        return stack.begin(args, kwargs, key, clock.monotonic())

    @functools.wraps(function)
    def outcome(*args: Any, **kwargs: Any) -> Outcome[Any]:
        call = begin(args, kwargs)
        return call.outcome(run(call), clock.monotonic())

    if make_key is None and not threaded:
        guarded = _lean(stack, function, run)
    else:

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return run(begin(args, kwargs))

    guarded.outcome = outcome  # type: ignore[attr-defined]
    guarded.target = stack.target  # type: ignore[attr-defined]
    return guarded


def _lean(stack: Stack, function: Callable[..., Any], run: Callable[..., Any]) -> Callable[..., Any]:
    """
    The short road of a call whose breaker is closed, which no caller hurries, and which succeeds at once.

    It does by itself what :meth:`Stack.begin`, :meth:`Stack.enter` and *run* do: a microsecond is seven
    function calls. Whatever else happens takes *run*'s road.
    """
    monotonic, gate, latencies = stack.clock.monotonic, stack.gate, stack.counters.latencies
    deadline, terms, attempt_timeout = stack.deadline, stack.terms, stack.attempt_timeout
    ends_after = deadline if attempt_timeout is None else min(deadline, attempt_timeout)
    untried = True  # a function that returns code which is yet to run does so from the first call on

    def the_long_road(args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Any:
        return run(stack.begin(args, kwargs, None, started))

    def go_on(failure: Exception, permit: int, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Any:
        try:
            call = stack.begin(args, kwargs, None, started)
            call.attempts = 1
            stack.settle(call, permit, failure)
            return run(call, failure)
        finally:
            del failure  # its traceback holds this frame: a cycle

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal untried
        started = monotonic()
        permit = gate.closed_period
        if permit < 0:
            return the_long_road(args, kwargs, started)
        limits = [started + ends_after, started + deadline, terms, 0]
        token = set_published(limits)
        if token.old_value is not _NOBODY and token.old_value[2] is not NO_TERMS:
            reset_published(token)
            return the_long_road(args, kwargs, started)
        try:
            value = function(*args, **kwargs)
            if untried:
                if type(value) in _RUNS_LATER:
                    raise runs_later(stack, value)
                untried = False
        except Exception as error:  # noqa: BLE001 - whatever it is, the recovery decides
            reset_published(token)
            failure = error
        except BaseException:
            reset_published(token)
            gate.release(permit)
            raise
        else:
            limits[0] = limits[1] = inf  # lift(limits), which no longer have to be taken back
            limits[2] = NO_TERMS
            elapsed = monotonic() - started
            if gate.eventful:
                gate.record_success(permit, elapsed)
            next(latencies[(elapsed * 1e6).__trunc__().bit_length()])
            return value
        try:
            return go_on(failure, permit, args, kwargs, started)
        finally:
            del failure

    return guarded
