"""Putting a stack around a callable: the one entrance to both worlds."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.resilience.async_guard import guard_async
from pixel_llm.resilience.options import Alternative, GuardOptions
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.sync_guard import guard_sync

P = ParamSpec("P")
R = TypeVar("R")


class Guarded(Protocol[P, R]):
    """A guarded callable. It keeps the signature of what it guards."""

    __wrapped__: Callable[P, R]
    target: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call through the stack and give the value."""

    #: Like calling, but gives an :class:`Outcome`; awaitable if the callable is.
    outcome: Callable[P, Any]


def guard(
    stack: Stack,
    function: Callable[P, R],
    *,
    key: Callable[..., Any] | None = None,
    cooperative: bool = False,
    cacheable: Callable[[Any], bool] | None = None,
    alternative: Alternative | None = None,
) -> Guarded[P, R]:
    """
    Put *stack* around *function*, sync or async.

    Args:
        stack: The compiled layers.
        function: What is called. Its signature is kept.
        key: Gives, from the arguments of a call, its key in the fallback's cache: two calls
            share a result if and only if their keys are equal. Needed where the fallback caches.
        cooperative: The function ends in time by itself, because it reads
            :func:`pixel_llm.resilience.current_limits`. Then no worker thread is made.
        cacheable: Whether a result may be kept for the fallback; by default each may.
        alternative: Gives the callable that makes the same calls elsewhere: ``alternative("model", name)``
            or ``alternative("endpoint", address)``. Needed where the fallback names another model or endpoint.

    Raises:
        ValidationError: If the function can't be guarded as the policy asks.
    """
    if stack.fallback is not None and stack.fallback.caches and key is None:
        raise ValidationError(
            f"{stack.target}: its fallback has a cache, so wrapping it needs key=, a function that "
            "gives the cache key from the call's arguments",
            error_code=ErrorCode.ERR_VAL_MISSING_FIELD,
        )
    if not callable(function):
        raise ValidationError(f"{stack.target}: must be given something to call (got {function!r})")
    if any(inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body) for body in _bodies(function)):
        raise ValidationError(f"{stack.target}: {function!r} is a generator; a stack guards calls that return a value")
    for name, helper in (("key", key), ("cacheable", cacheable), ("alternative", alternative)):
        if helper is not None and (not callable(helper) or inspect.iscoroutinefunction(helper)):
            raise ValidationError(f"{stack.target}: {name}= must be a plain function (got {helper!r})")
    options = GuardOptions(key, cooperative, cacheable, alternative)
    is_async = any(inspect.iscoroutinefunction(body) for body in _bodies(function))
    make: Callable[..., Any] = guard_async if is_async else guard_sync
    guarded = make(stack, function, options)
    if stack.wrapped is not None:
        stack.wrapped.record(stack.target, guarded, is_async=is_async)
    return cast("Guarded[P, R]", GuardedMethod(guarded) if _stands_in_a_class(function) else guarded)


def _bodies(function: Callable[..., Any]) -> tuple[Any, Any]:
    """What may say how *function* runs: it itself, or, for an object that can be called, its ``__call__``."""
    while isinstance(function, functools.partial):
        function = function.func
    return function, type(function).__call__


class GuardedMethod:
    """
    A guarded function that stands in the body of a class.

    A function would do for calling it, but ``obj.method.outcome`` must know *obj* too.
    """

    def __init__(self, guarded: Any) -> None:
        functools.update_wrapper(self, guarded)
        self._guarded = guarded
        self.outcome = guarded.outcome
        self.target = guarded.target

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it with its object as the first argument."""
        return self._guarded(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        bound: Any = functools.partial(self._guarded, instance)
        bound.outcome = functools.partial(self.outcome, instance)
        bound.target = self.target
        return bound


def _stands_in_a_class(function: Any) -> bool:
    name = getattr(function, "__qualname__", "")
    above = name.rpartition(".")[0]
    return inspect.isfunction(function) and bool(above) and not above.endswith("<locals>")
