"""The sync world: a callable run through a stack. :mod:`async_guard` is its twin."""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import inf
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from pixel_llm.errors import CircuitBreakerOpen, PixelLMError, ValidationError
from pixel_llm.resilience.breaker.no_breaker import NO_SHORT_ROAD
from pixel_llm.resilience.caching import read_through
from pixel_llm.resilience.call import Call
from pixel_llm.resilience.discarding import discard
from pixel_llm.resilience.fallbacks.remote import remote_steps, serve
from pixel_llm.resilience.limits import NO_TERMS, Terms, get_published, lift, reset_published, set_published
from pixel_llm.resilience.outcome import Outcome
from pixel_llm.resilience.queues.admission import Held
from pixel_llm.resilience.recovery import Recovery, refuse
from pixel_llm.resilience.roads.binding import Binding, OffRoad, Road
from pixel_llm.resilience.roads.options import GuardOptions
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.threads.abandoned import AbandonedThreads
from pixel_llm.resilience.threads.worker import InWorker

_RUNS_LATER = frozenset({CoroutineType, GeneratorType, AsyncGeneratorType})


def runs_later(stack: Stack, value: Any) -> ValidationError:
    """The error of a sync function whose result is code that is yet to run: it would run unguarded."""
    discard(value)
    kind = type(value).__name__.replace("_", " ")
    return ValidationError(
        f"the function returned the {kind} of {value.__qualname__}, which would run unguarded: guard that one itself",
        target=stack.target,
    )


def check_runs_now(stack: Stack, value: Any) -> None:
    """Refuse a *value* that is code which is yet to run."""
    if type(value) in _RUNS_LATER:
        raise runs_later(stack, value)


class SyncRoad(Road):
    """
    The way of a sync *function* through *stack*, whatever happens on it.

    A policy that is loaded again gives guards a new road; calls that are under way end on the old one.
    """

    __slots__ = ("_find_breaker", "_keep", "_make_key", "_remote", "_threads")

    def __init__(self, stack: Stack, function: Callable[..., Any], options: GuardOptions) -> None:
        super().__init__(function, stack)
        self._make_key, self._keep = options.key_maker(stack), options.keeper(stack)
        self._remote = remote_steps(stack, options, guard_alone, is_async=False)
        self._find_breaker = stack.find_breaker(options.breaker_key, function)
        called = stack.around(function, is_async=False)
        self._threads: AbandonedThreads | None = None
        if stack.timing.attempt_timeout is not None and not options.cooperative:
            # A plain function can't be interrupted: a timeout buys it a thread, a deadline alone is
            # checked between attempts.
            called, self._threads = InWorker(stack, called), stack.abandoned_threads
        self.function = called
        if self._make_key is self._find_breaker is None and called is function and stack.admission is None:
            self.gate = stack.gate

    def go(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Any:
        """Carry a call that began at the moment *started* to its end."""
        if self.gate is not NO_SHORT_ROAD and self.stack.refusal_is_final:
            try:  # an open breaker refuses thousands of calls a second: nothing is made for them
                self.gate.check()
            except CircuitBreakerOpen as refusal:
                refuse(self.stack, started, refusal)
                raise
        return self.run(self.begin(args, kwargs, started))

    def outcome(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Outcome[Any]:
        """The same, giving its outcome."""
        call = self.begin(args, kwargs, started)
        value = self.run(call)
        return call.outcome(value, self.monotonic())

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Call:
        """A call with these arguments, which began at the moment *started*."""
        key = self._make_key(args, kwargs) if self._make_key is not None else None
        call: Call = self.stack.begin(args, kwargs, key, started)
        if self._find_breaker is not None:
            call.gate = self._find_breaker(args, kwargs)
        return call

    def run(self, call: Call, failure: Exception | None = None) -> Any:
        """Carry *call* to its end. Its first attempt may have ended in *failure* already."""
        stack, clock = self.stack, self.stack.clock
        if stack.cache is not None and call.ticket is None:
            return read_through.run(self, stack.cache, call)
        recovery = None
        refused = False
        try:
            while True:
                if failure is None:
                    try:
                        if self._threads is not None:
                            self._threads.check()
                        permit = stack.enter(call)
                    except PixelLMError as refusal:
                        if recovery is None and stack.refusal_is_final:
                            refuse(stack, call.started, refusal)
                            raise
                        failure, refused = refusal, True
                    else:
                        try:
                            value = self._round(call, permit)
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
                        return serve(self._remote, recovery, call, failure)
                    return recovery.finish(failure)
                failure = None
                if wait > 0:
                    clock.sleep(wait)
                call.attempt_started = clock.monotonic()
        finally:
            del failure  # its traceback holds this frame: a cycle

    def give_up(self, call: Call, failure: Exception, reason: str) -> Any:
        """End a call that was never tried, because one like it has ended in *failure*: for *reason*."""
        try:
            recovery = Recovery(self.stack, call)
            recovery.give_up(reason)
            if self._remote is not None:
                return serve(self._remote, recovery, call, failure)
            return recovery.finish(failure)
        finally:
            del failure  # its traceback holds this frame: a cycle

    def after(
        self, failure: Exception, permit: int, args: tuple[Any, ...], kwargs: dict[str, Any], started: float
    ) -> Any:
        """Go on with a call whose first attempt ended in *failure* on the short road."""
        try:
            call = self.stack.begin(args, kwargs, None, started)
            call.attempts = 1
            self.stack.settle(call, permit, failure)
            return self.run(call, failure)
        finally:
            del failure

    def _round(self, call: Call, permit: int) -> Any:
        """What lies between two waits of the retry layer: one attempt."""
        attempt = self._attempt if self.stack.admission is None else self._attempt_in_slot
        return attempt(call, permit)

    def _count_success(self, call: Call, recovery: Recovery | None, value: Any) -> None:
        """Count *call*, whose last attempt gave *value*."""
        if recovery is None:
            self.stack.counters.record_success(self.stack.clock.monotonic() - call.started)
        else:
            recovery.recovered()

    def _attempt(self, call: Call, permit: int) -> Any:
        """Call the function once, and settle with the breaker."""
        stack = self.stack
        call.attempts += 1
        limits = stack.timing.limits_of(call)
        token = set_published(limits)
        try:
            value = self.function(*call.args, **call.kwargs) if call.held is None else self._run_held(call)
            check_runs_now(stack, value)
        except Exception as error:
            stack.settle(call, permit, error)
            raise
        except BaseException:
            call.gate.release(permit)
            raise
        finally:
            reset_published(token)
        lift(limits)
        if call.gate.eventful:
            call.gate.record_success(permit, stack.clock.monotonic() - call.attempt_started)
        if self._keep is not None:
            self._keep(call.key, value)
        return value

    def _attempt_in_slot(self, call: Call, permit: int) -> Any:
        """Like :meth:`_attempt`, with a bulkhead's slot, which goes back when the breaker and the thread are done."""
        admission = self.stack.admission
        assert admission is not None  # noqa: S101 - see run()
        held = call.held = Held(admission, call.attempt_started, 1 if self._threads is None else 2)
        try:
            value = self._attempt(call, permit)
            held.ok = True
        except BaseException as error:
            held.ok = self.stack.says_of_load(call, error)
            raise
        finally:
            held.done()
        admission.spend(value)
        return value

    def _run_held(self, call: Call) -> Any:
        function, held = self.function, call.held
        if held is not None and isinstance(function, InWorker):
            return function.run(call.args, call.kwargs, held.done)
        return function(*call.args, **call.kwargs)


def guard_alone(stack: Stack, function: Callable[..., Any], options: GuardOptions) -> Callable[..., Any]:
    """A guard of *function* for use inside a road: only ever bound to *stack*."""

    def make_road(stack: Stack) -> Road:
        return SyncRoad(stack, function, options)

    return guard_sync(function, Binding(make_road, OffRoad(function), make_road(stack)))


def guard_sync(function: Callable[..., Any], binding: Binding) -> Callable[..., Any]:
    """
    The guard of a sync *function*: it takes the road that *binding* puts it on.

    Its body is the short road, of a call whose breaker is closed, which has no guarded caller, and which succeeds
    at once. It does by itself what :class:`SyncRoad` does in methods: a microsecond is seven function calls.
    Whatever else happens takes the long road.
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
    untried = True  # a function that returns code which is yet to run does so from the first call on

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal untried
        taken, entered = road, gate  # what this call must end with, whatever is switched meanwhile
        started = monotonic()
        permit = entered.closed_period
        if permit < 0 or get_published()[2] is not NO_TERMS:
            return taken.go(args, kwargs, started)
        limits = [started + ends_after, started + deadline, terms, 0]
        token = set_published(limits)
        try:
            value = called(*args, **kwargs)
            if untried:
                if type(value) in _RUNS_LATER:
                    raise runs_later(taken.stack, value)
                untried = False
        except Exception as error:  # noqa: BLE001 - whatever it is, the recovery decides
            reset_published(token)
            failure = error
        except BaseException:
            reset_published(token)
            entered.release(permit)
            raise
        else:
            limits[0] = limits[1] = inf  # lift(limits), which no longer have to be taken back
            limits[2] = NO_TERMS
            elapsed = monotonic() - started
            if entered.eventful:
                entered.record_success(permit, elapsed)
            next(latencies[(elapsed * 1e6).__trunc__().bit_length()])
            return value
        try:
            return taken.after(failure, permit, args, kwargs, started)
        finally:
            del failure  # its traceback holds this frame: a cycle

    @functools.wraps(function)
    def outcome(*args: Any, **kwargs: Any) -> Outcome[Any]:
        result: Outcome[Any] = road.outcome(args, kwargs, monotonic())
        return result

    def switch(to: Road) -> None:
        nonlocal road, monotonic, gate, latencies, ends_after, deadline, terms, called
        road, monotonic, gate, latencies, called = to, to.monotonic, to.gate, to.latencies, to.function
        ends_after, deadline, terms = to.ends_after, to.deadline, to.terms

    binding.connect(switch)
    guarded.outcome = outcome  # type: ignore[attr-defined]
    guarded.binding = binding  # type: ignore[attr-defined]
    return guarded
