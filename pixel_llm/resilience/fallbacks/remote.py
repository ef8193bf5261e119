"""
The fallback steps that take time: functions, other targets, other models and endpoints.

They run within the deadline of the whole call, less what later steps have reserved; one that
fails, or that has no time left, leaves it to the next step. :class:`RemoteSteps` decides what
both worlds share; only running a step exists twice.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from pixel_llm.errors import ErrorCode, TimeoutError, ValidationError
from pixel_llm.policy import FallbackStep, FallbackStrategy
from pixel_llm.resilience.call import Call
from pixel_llm.resilience.fallbacks.chain import FallbackChain, FallbackRun
from pixel_llm.resilience.limits import Published, get_published, lift, set_published, take_back
from pixel_llm.resilience.recovery import Recovery
from pixel_llm.resilience.roads.options import GuardOptions
from pixel_llm.resilience.roads.stepping import within
from pixel_llm.resilience.stack import Stack

#: Puts a stack around a callable; the guard of one of the worlds.
Guard = Callable[[Stack, Callable[..., Any], GuardOptions], Callable[..., Any]]

_RUNS_LATER = (CoroutineType, GeneratorType, AsyncGeneratorType)


class RemoteSteps:
    """How one guarded callable runs the steps of its fallback that take time. Safe for concurrent use."""

    def __init__(self, stack: Stack, chain: FallbackChain, options: GuardOptions, guard: Guard, *, is_async: bool):
        self.stack = stack
        self._chain = chain
        self._options = options
        self._guard = guard
        self._is_async = is_async
        self._callables: dict[int, Callable[..., Any]] = {}
        for index, step in enumerate(chain.steps):
            if step.strategy is FallbackStrategy.CUSTOM_FUNCTION:
                self._callables[index] = self._registered(step)
            elif step.strategy in (FallbackStrategy.MODEL, FallbackStrategy.ENDPOINT) and options.alternative is None:
                raise ValidationError(
                    f"{stack.target}: its fallback names another {step.strategy}, so wrapping it needs alternative=, "
                    "which gives the callable that makes the same calls there",
                    error_code=ErrorCode.ERR_VAL_MISSING_FIELD,
                )

    def find(self, index: int, step: FallbackStep, error: Exception) -> Callable[..., Any] | str:
        """What a step calls, with the arguments of the call; or why it can't be called."""
        if step.strategy is FallbackStrategy.TARGET:
            return self._other_target(step.value)
        known = self._callables.get(index)
        if isinstance(known, _WithError):
            return functools.partial(known, error)
        return known or self._elsewhere(index, step)

    def next(self, run: FallbackRun, call: Call) -> _Trial | None:
        """The next step that takes time and has some, as it begins now; None at the end. See :class:`FallbackRun`."""
        while (found := run.next_step()) is not None:
            index, step = found
            ends = call.deadline + self._chain.reserve - self._chain.reserved_after(index)
            if ends > self.stack.clock.monotonic():
                return _Trial(self, run, index, step, [ends, ends, call.terms, get_published()[3] + 1])
            run.skip(step, "the deadline has passed")
        return None

    def _registered(self, step: FallbackStep) -> Callable[..., Any]:
        function = self.stack.find_function(step.value)
        if not self._is_async and (
            inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
        ):
            raise ValidationError(
                f"{self.stack.target}: its fallback names {step.value}, an async function, which a sync one can't await"
            )
        return function if not _names_error(function) else _WithError(function)

    def _other_target(self, target: str) -> Callable[..., Any] | str:
        wrapped = self.stack.wrapped
        same = wrapped.find(target, is_async=self._is_async) if wrapped is not None else None
        if same is not None:
            return same
        other = wrapped.find(target, is_async=not self._is_async) if wrapped is not None else None
        if other is None:
            return "the program has not wrapped this target"
        if not self._is_async:
            return "the program has wrapped this target as an async function, which a sync call can't await"
        # It blocks, so it must not run in the loop's thread. It sees the time that is left there, too.
        return functools.partial(asyncio.to_thread, other)

    def _elsewhere(self, index: int, step: FallbackStep) -> Callable[..., Any]:
        alternative = self._options.alternative
        assert alternative is not None  # noqa: S101 - checked when it was wrapped
        function = alternative(step.strategy.value, step.value)
        guarded = self._guard(
            self.stack.alternative(index), function, GuardOptions(cooperative=self._options.cooperative)
        )
        return self._callables.setdefault(index, guarded)


def remote_steps(stack: Stack, options: GuardOptions, guard: Guard, *, is_async: bool) -> RemoteSteps | None:
    """
    What runs the steps of the fallback of *stack* that take time, for a callable with *options*; None without any.

    Raises:
        ValidationError: If the callable can't be wrapped as the policy asks.
    """
    chain = stack.fallback
    if chain is None or not chain.takes_time:
        return None
    return RemoteSteps(stack, chain, options, guard, is_async=is_async)


class _WithError:
    """A function that wants to know what it stands in for."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, error: Exception, /, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **{"error": error, **kwargs})


def _names_error(function: Callable[..., Any]) -> bool:
    """True if *function* has a parameter ``error`` that can be given by name."""
    try:
        parameter = inspect.signature(function).parameters.get("error")
    except (TypeError, ValueError):  # some of C's functions have none
        return False
    return parameter is not None and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)


class _Trial:
    """One step of a fallback that takes time, while it runs: within its limits, and whatever fails in it is noted."""

    def __init__(self, steps: RemoteSteps, run: FallbackRun, index: int, step: FallbackStep, limits: Published) -> None:
        self._steps = steps
        self._run = run
        self._index = index
        self._step = step
        self.limits = limits

    def __enter__(self) -> None:
        self._token = set_published(self.limits)

    def __exit__(self, kind: object, raised: BaseException | None, traceback: object) -> bool:
        take_back(self._token)
        if not isinstance(raised, Exception):
            return False
        self._run.fail(self._step, raised)  # whatever it is, the next step may serve
        return True

    def find(self, error: Exception) -> Callable[..., Any] | None:
        """What the step calls in place of a call that failed of *error*; None, and it is skipped, if it can't."""
        found = self._steps.find(self._index, self._step, error)
        if isinstance(found, str):
            self._run.skip(self._step, found)
            return None
        return found

    def serve(self, value: Any) -> None:
        """End the call with *value*."""
        lift(self.limits)
        self._run.serve(self._step, value)


def serve(steps: RemoteSteps, recovery: Recovery, call: Call, error: Exception) -> Any:
    """End a call that has failed for good, in the sync world; see :meth:`Recovery.finish`."""
    try:
        run = recovery.begin_fallback(error)
        while (trial := steps.next(run, call)) is not None:
            with trial:
                if (function := trial.find(error)) is not None:
                    value = function(*call.args, **call.kwargs)
                    if isinstance(value, _RUNS_LATER):
                        raise _runs_later(value)
                    trial.serve(value)
        return recovery.end_fallback(run)
    finally:
        run = trial = error = None  # type: ignore[assignment]  # the error's traceback holds this frame: a cycle


async def serve_async(steps: RemoteSteps, recovery: Recovery, call: Call, error: Exception) -> Any:
    """End a call that has failed for good, in the async world; see :meth:`Recovery.finish`."""
    try:
        run = recovery.begin_fallback(error)
        while (trial := steps.next(run, call)) is not None:
            with trial:
                if (function := trial.find(error)) is not None:
                    trial.serve(await within(trial.limits, _invoke(function, call), _out_of_time))
        return recovery.end_fallback(run)
    finally:
        run = trial = error = None  # type: ignore[assignment]  # the error's traceback holds this frame: a cycle


async def _invoke(function: Callable[..., Any], call: Call) -> Any:
    """Call *function*, sync or async."""
    value = function(*call.args, **call.kwargs)
    return await value if inspect.isawaitable(value) else value


def _out_of_time(limits: Published) -> TimeoutError:
    return TimeoutError("its time was up", error_code=ErrorCode.ERR_TIMEOUT_DEADLINE)


def _runs_later(value: Any) -> ValidationError:
    if isinstance(value, CoroutineType):
        value.close()
    return ValidationError(f"it returned a {type(value).__name__}, which a sync call can't run")
