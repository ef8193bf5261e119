"""Putting a stack around a callable: the one entrance to both worlds."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from pixel_llm.errors import ValidationError
from pixel_llm.policy import TargetPolicy
from pixel_llm.resilience.breaker.keys import BreakerKey
from pixel_llm.resilience.hedging.hedged_async import HedgedAsyncRoad
from pixel_llm.resilience.hedging.hedged_sync import HedgedSyncRoad
from pixel_llm.resilience.roads.async_guard import AsyncRoad, guard_async
from pixel_llm.resilience.roads.binding import AsyncOffRoad, Binding, OffRoad, Road, UnboundRoad
from pixel_llm.resilience.roads.options import Alternative, GuardOptions
from pixel_llm.resilience.roads.sync_guard import SyncRoad, guard_sync
from pixel_llm.resilience.routes.binding import over_places
from pixel_llm.resilience.routes.routes import Routes
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.streams.async_stream_road import AsyncStreamRoad
from pixel_llm.resilience.streams.stream_guard import StreamOffRoad, guard_stream
from pixel_llm.resilience.streams.sync_stream_road import SyncStreamRoad
from pixel_llm.resilience.tracing.roads import TracedAsyncRoad, TracedRoad, TracedStreamRoad
from pixel_llm.resilience.tracing.tracer import Tracer

P = ParamSpec("P")
R = TypeVar("R")


class Guarded(Protocol[P, R]):
    """A guarded callable. It keeps the signature of what it guards."""

    __wrapped__: Callable[P, R]
    target: str
    binding: Binding

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
    breaker_key: BreakerKey | None = None,
    stream: bool = False,
    routes: Routes | None = None,
) -> Guarded[P, R]:
    """
    Put *stack* around *function*, sync or async.

    Generator functions give streams: calling the guarded function gives a :class:`SyncStream`, of an async one an
    :class:`AsyncStream`.

    Args:
        stack: The compiled layers.
        function: What is called. Its signature is kept.
        key: Gives, from the arguments of a call, its key in caches: two calls share a result if and only if
            their keys are equal. Needed where the target has a cache, or a fallback with one.
        cooperative: The function ends in time by itself, because it reads
            :func:`pixel_llm.resilience.current_limits`. Then no worker thread is made.
        cacheable: Whether a result may be kept for other calls; by default each may.
        alternative: Gives the callable that makes the same calls elsewhere: ``alternative("model", name)``
            or ``alternative("endpoint", address)``. Needed where the fallback names another model or endpoint.
        breaker_key: Gives, from the arguments of a call, which of the target's breakers it belongs to, where
            the policy says ``per``; or a map of such functions by what it may say there, such as
            ``{"model": lambda request: request.model}``. By default it is the argument of that name. Keys must
            be hashable, and appear in messages and events.
        stream: The function is no generator function, but gives streams all the same: it returns an iterator, a
            coroutine function an async iterator.
        routes: The places that can answer the same calls, where there are several: each has its own breaker, rate
            limit, bulkhead and timeout, and an attempt asks one after the other until there is an answer. *function*
            is then called only while stacks are switched off.

    Raises:
        ValidationError: If the function can't be guarded as the policy asks.
    """
    options = GuardOptions(key, cooperative, cacheable, alternative, breaker_key, stream, routes)
    binding = _bind(stack.target, function, options, lambda make_road: make_road(stack))
    guarded = _put_on(stack.target, function, binding, options)
    if stack.wrapped is not None:
        stack.wrapped.record(stack.target, guarded, is_async=_is_async(function))
    return guarded


def guard_later(
    target: str, function: Callable[P, R], find_stack: Callable[[], Stack], **options: Any
) -> Guarded[P, R]:
    """
    Guard *function* by a stack that is found when it is first called.

    Args:
        target: The target's name.
        function: What is called.
        find_stack: Gives the stack.
        options: Those of :func:`guard`.
    """

    def bind() -> Road:
        road = binding.prepare(find_stack())
        binding.take(road)
        return road

    chosen = GuardOptions(**options)
    binding = _bind(target, function, chosen, lambda make_road: UnboundRoad(function, bind))
    return _put_on(target, function, binding, chosen)


def _bind(
    target: str,
    function: Callable[..., Any],
    options: GuardOptions,
    first_road: Callable[[Callable[[Stack], Road]], Road],
) -> Binding:
    """Check what does not depend on the stack, and make the binding of *function*."""
    if isinstance(function, staticmethod | classmethod):
        kind = type(function).__name__
        raise ValidationError(f"{target}: guard the function, not the {kind}: write @{kind} above the guard, not below")
    if not callable(function):
        raise ValidationError(f"{target}: must be given something to call (got {function!r})")
    helpers = (("key", options.key), ("cacheable", options.cacheable), ("alternative", options.alternative))
    for name, helper in helpers:
        if helper is not None and (not callable(helper) or inspect.iscoroutinefunction(helper)):
            raise ValidationError(f"{target}: {name}= must be a plain function (got {helper!r})")
    if options.stream or _is_stream(function):
        return _bind_stream(target, function, options, first_road)
    is_async = _is_async(function)

    def make_road(stack: Stack) -> Road:
        options.check(stack)
        stack, called = over_places(stack, function, options, stream=False, is_async=is_async)
        road: Road
        if stack.hedging is None:
            road = AsyncRoad(stack, called, options) if is_async else SyncRoad(stack, called, options)
        else:
            hedged: Callable[..., Road] = HedgedAsyncRoad if is_async else HedgedSyncRoad
            road = hedged(stack, called, options, stack.hedging)
        return _seen(road, TracedAsyncRoad if is_async else TracedRoad)

    off_road = AsyncOffRoad(function) if is_async else OffRoad(function)
    return Binding(make_road, off_road, first_road(make_road))


def _bind_stream(
    target: str,
    function: Callable[..., Any],
    options: GuardOptions,
    first_road: Callable[[Callable[[Stack], Road]], Road],
) -> Binding:
    is_async = _is_async(function)
    road: Callable[..., Road] = AsyncStreamRoad if is_async else SyncStreamRoad

    def make_road(stack: Stack) -> Road:
        options.check(stack)
        over = over_places(stack, function, options, stream=True, is_async=is_async)
        return _seen(road(*over, options), TracedStreamRoad)

    off_road = StreamOffRoad(function, lambda: road(Stack(target, TargetPolicy()), function, GuardOptions()))
    return Binding(make_road, off_road, first_road(make_road))


def _seen(road: Road, traced: Callable[[Road, Tracer], Road]) -> Road:
    """*road*, seen by whoever wants to see its calls."""
    tracer = road.stack.tracer
    return road if tracer is None else traced(road, tracer)


def _put_on(target: str, function: Callable[P, R], binding: Binding, options: GuardOptions) -> Guarded[P, R]:
    is_async = _is_async(function)
    make: Callable[..., Any] = guard_async if is_async else guard_sync
    if options.stream or _is_stream(function):
        make = functools.partial(guard_stream, is_async=is_async)
    guarded = make(function, binding)
    guarded.target = target
    return cast("Guarded[P, R]", GuardedMethod(guarded) if _stands_in_a_class(function) else guarded)


def _is_async(function: Callable[..., Any]) -> bool:
    return any(
        inspect.iscoroutinefunction(body) or inspect.isasyncgenfunction(body) or getattr(body, "is_async_stream", False)
        for body in _bodies(function)
    )


def _is_stream(function: Callable[..., Any]) -> bool:
    return any(
        inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body) or hasattr(body, "is_async_stream")
        for body in _bodies(function)
    )


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
        self.binding = guarded.binding

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
