"""
A target's compiled layers, outermost first::

    deadline → fallback → cache → retry → circuit_breaker → rate_limit → bulkhead → timeout → call

A :class:`Stack` holds what the layers know (the breaker's state, the cache, the counters) and decides
what both worlds share; :mod:`pixel_llm.resilience.roads.sync_guard` and
:mod:`pixel_llm.resilience.roads.async_guard` run callables through it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any

from pixel_llm.errors import classify_error, http_status
from pixel_llm.events import CallQueued, Event, Listener
from pixel_llm.policy import TargetPolicy, TimeoutConfig
from pixel_llm.policy.elsewhere import elsewhere
from pixel_llm.policy.sections.circuit_breaker import PER_TARGET
from pixel_llm.resilience.breaker.circuit_breaker import CircuitBreaker
from pixel_llm.resilience.breaker.keyed import KeyedBreakers
from pixel_llm.resilience.breaker.keys import BreakerKey, FindGate, breaker_finder
from pixel_llm.resilience.breaker.no_breaker import NO_BREAKER, NO_KEY_YET, NoBreaker
from pixel_llm.resilience.breaker.reporting import reporting_breaker
from pixel_llm.resilience.caching.cache import ResultCache
from pixel_llm.resilience.caching.read_through import ReadThrough
from pixel_llm.resilience.call import Call
from pixel_llm.resilience.chaos import Chaos
from pixel_llm.resilience.checked import checked_policy
from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock, was_ended
from pixel_llm.resilience.counters import Counters, StackStats
from pixel_llm.resilience.description import Layer, describe
from pixel_llm.resilience.fallbacks.chain import FallbackChain
from pixel_llm.resilience.fallbacks.wrapped import WrappedTargets
from pixel_llm.resilience.hedging.delays import Hedging
from pixel_llm.resilience.limits import get_published
from pixel_llm.resilience.queues.adaptive import is_drop
from pixel_llm.resilience.queues.admission import make_admission
from pixel_llm.resilience.registry import FindFunction, find_function
from pixel_llm.resilience.retrying.budget import BudgetShare, RetryBudget, share_budget
from pixel_llm.resilience.retrying.rejection import checked
from pixel_llm.resilience.retrying.retry import Retry
from pixel_llm.resilience.roads.stepping import within
from pixel_llm.resilience.threads.abandoned import AbandonedThreads
from pixel_llm.resilience.timing import Timing
from pixel_llm.resilience.tracing.attempts import traced, traced_async, traced_stream, traced_stream_async
from pixel_llm.resilience.tracing.tracer import Tracer


class Stack:
    """
    The layers of one target, shared by everything that is wrapped for it. Safe for concurrent use.

    Args:
        target: The target's name.
        policy: Its layers; durations are seconds.
        is_checked: Whether the policy has been checked already, as all that stands in files has.
        clock: Where time comes from.
        emit: Takes the events of the stack; without it none is built. It must not raise; see
            :class:`pixel_llm.events.Listeners`.
        find_function: Finds the functions that the policy names.
        wrapped: What the program has wrapped for the targets that fallbacks name.
        budgets: The retry budgets that the policy names.
        breaker: A breaker that others share with it, in place of one of its own; made from the same section.
        before: The target's stack until now: its counters go on, and the state of layers whose section is the same.
            Its rate limit and bulkhead are taken later, see :meth:`take_queues`.
        tracer: Sees calls and attempts begin and end, if anybody does.
    """

    def __init__(
        self,
        target: str,
        policy: TargetPolicy,
        *,
        is_checked: bool = False,
        clock: Clock = SYSTEM_CLOCK,
        emit: Listener | None = None,
        find_function: FindFunction = find_function,
        wrapped: WrappedTargets | None = None,
        budgets: Mapping[str, RetryBudget] = MappingProxyType({}),
        breaker: CircuitBreaker | None = None,
        before: Stack | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.target = target
        self.policy = policy if is_checked else checked_policy(target, policy)
        self.clock = clock
        self.counters: Counters = Counters() if before is None else before.counters
        self.find_function = find_function
        self.wrapped = wrapped
        self.budgets = budgets
        self.retry: Retry | None = None
        self.budget: BudgetShare | None = None
        if policy.retry is not None and policy.retry.does_something:
            self.retry = Retry(policy.retry, idempotent=policy.idempotent is not False)
            self.budget = share_budget(target, policy.retry.budget, budgets, clock, self.counters.succeeded_at_once)
        #: The one breaker, or the breakers of its keys.
        self.breaker = breaker
        self.breakers: KeyedBreakers | None = None
        if policy.circuit_breaker is not None and breaker is None:
            make = partial(reporting_breaker, target, policy.circuit_breaker, clock=clock, report=self.report)
            if policy.circuit_breaker.per == PER_TARGET:
                self.breaker = make()
            else:
                self.breakers = KeyedBreakers(lambda key: make(key=key), policy.circuit_breaker.max_keys)
        self.fallback: FallbackChain | None = None
        if policy.fallback is not None:
            self.fallback = FallbackChain(policy.fallback, clock=clock)
        #: The read-through cache.
        self.cache: ReadThrough | None = None
        if policy.cache is not None:
            self.cache = ReadThrough(policy.cache, clock=clock, counters=self.counters)
        #: When an attempt gets others beside it.
        self.hedging = Hedging(policy.hedge, clock=clock) if policy.hedge is not None else None
        #: Injects faults into what is called, where the policy says so.
        self.chaos: Chaos | None = None
        if policy.chaos is not None:
            self.chaos = Chaos(target, policy.chaos, clock=clock, report=self.report)
        #: The breaker that all calls pass, or what stands in its place. What a call passes is its own `gate`.
        self.gate: CircuitBreaker | NoBreaker = NO_BREAKER
        if policy.circuit_breaker is not None:
            self.gate = self.breaker or NO_KEY_YET
        self.admission = make_admission(target, policy, clock, find_function)
        #: Whether a refused call waits for the breaker.
        self.waits_for_breaker = (
            policy.circuit_breaker is not None
            and policy.circuit_breaker.refuses
            and policy.retry is not None
            and policy.retry.wait_for_breaker
        )
        #: Whether a refused call has failed: nothing serves in its place, nobody waits for what it brings, nor it for
        #: the breaker.
        self.refusal_is_final = self.fallback is None and self.cache is None and not self.waits_for_breaker
        #: How long calls and their attempts may take.
        self.timing = Timing(
            target, policy, clock=clock, reserve=self.fallback.reserve if self.fallback is not None else 0.0
        )
        #: Takes the events, if anybody does.
        self.listener = emit
        self.tracer = tracer
        if before is not None:
            self._go_on_from(before)
        #: The same layers around several places, where something is wrapped that has routes; see
        #: :mod:`pixel_llm.resilience.routes`.
        self.over_routes: Any = None
        if before is not None and before.over_routes is not None:
            self.over_routes = before.over_routes.under(self)

    @cached_property
    def abandoned_threads(self) -> AbandonedThreads:
        """Its threads that run on although their callers have left."""
        limit = (self.policy.timeout or TimeoutConfig()).max_abandoned_threads
        return AbandonedThreads(self.target, limit, clock=self.clock, report=self.report)

    def _go_on_from(self, before: Stack) -> None:
        """Take over the state of each layer of *before* whose section is the same."""
        old, new = before.policy, self.policy
        if self.budget is not None and before.budget is not None and self.budget.is_as(before.budget):
            self.budget = before.budget
        if new.circuit_breaker == old.circuit_breaker:
            self.breaker, self.breakers, self.gate = before.breaker, before.breakers, before.gate
        if new.cache == old.cache:
            self.cache = before.cache
        if new.hedge == old.hedge:
            self.hedging = before.hedging
        if new.timeout == old.timeout and "abandoned_threads" in vars(before):
            vars(self)["abandoned_threads"] = before.abandoned_threads
        if self.fallback is not None and before.fallback is not None and new.fallback == old.fallback:
            self.fallback.go_on_from(before.fallback)
            if elsewhere(new) == elsewhere(old):
                # The same places: also those that calls under way, which end under the old policy, will ask for first.
                self.fallback.stacks = before.fallback.stacks
        for stack, old_stack in self._alternatives_of(before):
            stack._go_on_from(old_stack)

    def take_queues(self, before: Stack) -> None:
        """
        Go on with the rate limit and the bulkhead of *before*, under the limits of this stack.

        Unlike the rest of what a stack takes over this changes the other one, which still serves: it is done when
        nothing can go wrong with a new policy any more, and before a call comes here.
        """
        if self.admission is not None and before.admission is not None:
            self.admission.go_on_from(before.admission)
        for stack, old_stack in self._alternatives_of(before):
            stack.take_queues(old_stack)
        if self.over_routes is not None and before.over_routes is not None:
            self.over_routes.take_queues(before.over_routes)

    def _alternatives_of(self, before: Stack) -> Iterator[tuple[Stack, Stack]]:
        """The stacks of steps that call elsewhere, and those that *before* has made for the same places."""
        if self.fallback is None or before.fallback is None:
            return
        places = before.fallback.places
        old = {places[index]: stack for index, stack in before.fallback.stacks.items()}
        for index, place in enumerate(self.fallback.places):
            if place in old and (made := self.alternative(index)) is not old[place]:
                yield made, old[place]

    def describe(self) -> tuple[Layer, ...]:
        """The layers that are there, outermost first, the call itself last."""
        layers: tuple[Layer, ...] = describe(self.policy) if self.over_routes is None else self.over_routes.describe()
        return layers

    def find_breaker(self, breaker_key: BreakerKey | None, function: Callable[..., Any]) -> FindGate | None:
        """A function that gives the breaker of a call of *function*, or None where all calls have the same one."""
        section = self.policy.circuit_breaker
        if self.breakers is None or section is None:
            return None
        return breaker_finder(self.target, self.breakers, section.per, breaker_key, function)

    @property
    def caches(self) -> bool:
        """Whether results are kept under the keys of calls."""
        return self.cache is not None or (self.fallback is not None and self.fallback.caches)

    def result_caches(self) -> Iterator[ResultCache]:
        """What results are kept in."""
        if self.cache is not None:
            yield self.cache.cache
        if self.fallback is not None and (kept := self.fallback.cache) is not None:
            yield kept

    def around(self, function: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
        """*function* with what is around each attempt: injected faults, a look at its result, and whoever sees it."""
        if self.chaos is not None:
            function = self.chaos.around_async(function) if is_async else self.chaos.around(function)
        name = self.policy.retry.retry_on_result if self.policy.retry is not None else None
        if name is not None:
            function = checked(self.target, name, self.find_function(name), function, is_async=is_async)
        if self.tracer is not None:
            function = (traced_async if is_async else traced)(self.target, function)
        return function

    def around_stream(self, function: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
        """The same of a *function* that gives streams. No result is looked at before it is there."""
        if self.chaos is not None:
            function = self.chaos.around_async(function) if is_async else self.chaos.around(function)
        if self.tracer is not None:
            function = (traced_stream_async if is_async else traced_stream)(self.target, function)
        return function

    def stats(self) -> StackStats:
        """What has become of its calls so far."""
        return self.counters.stats()

    def report(self, kind: type[Event], *values: Any) -> None:
        """Count an event and tell it to whoever listens. *values* are its fields after the target."""
        self.counters.count(kind.name)
        if self.listener is not None:
            self.listener(kind(self.target, *values))

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any], key: Any, started: float) -> Call:
        """A call that begins at the moment *started*: it has its own deadline, or what is left to its caller."""
        deadline, terms = self.timing.of_call(started)
        return Call(args, kwargs, key, started, deadline, terms, self.gate)

    def enter(self, call: Call) -> int:
        """
        Let an attempt begin.

        Returns:
            The breaker's permit, to be handed to :meth:`settle` or given back.

        Raises:
            TimeoutError: If the call has no time left.
            CircuitBreakerOpen: If the breaker refuses.
            LimitExceeded: If the rate limit or the bulkhead does.
        """
        if call.deadline <= self.clock.monotonic():
            raise self.timing.out_of_time(call.terms)
        admission = self.admission
        if admission is None:
            return call.gate.acquire()
        permit = admission.enter_now(call.gate)
        if permit is None:
            permit = admission.queue(call.deadline, call.gate)
            self._has_queued(call)
        return permit

    def enter_at_once(self, call: Call) -> int | None:
        """Like :meth:`enter`, but None if the attempt would have to wait, as it can by :meth:`queue_async`."""
        if call.deadline <= self.clock.monotonic():
            raise self.timing.out_of_time(call.terms)
        return call.gate.acquire() if self.admission is None else self.admission.enter_now(call.gate)

    async def queue_async(self, call: Call) -> int:
        """Let an attempt begin that must wait for it; the calling task does. Like :meth:`enter`."""
        assert self.admission is not None  # noqa: S101 - else there is nothing to wait for
        permit: int = await self.wait_async(call, self.admission.queue_async(call.deadline, call.gate))
        self._has_queued(call)
        return permit

    async def wait_async(self, call: Call, waiting: Coroutine[Any, Any, Any]) -> Any:
        """
        Await *waiting*, which minds the deadline of *call* by itself.

        Where that deadline is the caller's, both calls end in the same moment. As with attempts, the inner one ends
        first, so that its fallback serves in both worlds.
        """
        if not call.terms.inherited:
            return await waiting
        return await within(
            [call.deadline, call.deadline, call.terms, get_published()[3] + 1], waiting, self.timing.cut
        )

    def says_of_load(self, call: Call, error: BaseException) -> bool | None:
        """False if *error*, in which an attempt ended, is a sign that its target has too much to do; else None."""
        bulkhead = self.policy.bulkhead
        if bulkhead is None or bulkhead.adaptive is None:
            return None
        return False if is_drop(error) and self.timing.was_enough(call, error) else None

    def never_began(self, call: Call, permit: int) -> None:
        """End an attempt that had entered, and never began."""
        call.gate.release(permit)
        if self.admission is not None:
            self.admission.leave()

    def settle(self, call: Call, permit: int, error: Exception) -> None:
        """End an attempt that failed: the breaker counts it, or it is neutral."""
        if self._counts(call, error):
            call.gate.record_failure(permit, error, self.clock.monotonic() - call.attempt_started)
        else:
            call.gate.release(permit)

    def alternative(self, index: int) -> Stack:
        """
        The stack of a fallback step that makes the same call elsewhere, made when it is first asked for.

        It makes one attempt, within this stack's deadline, and knows its own breaker: what is wrong with one
        server says nothing of the other.
        """
        if self.fallback is None:
            raise LookupError("there is no fallback")
        known = self.fallback.stacks.get(index)
        if known is not None:
            return known
        step = self.fallback.steps[index]
        target = f"{self.target}[{step.strategy.value}={step.value}]"
        made = Stack(
            target,
            elsewhere(self.policy),
            is_checked=True,
            clock=self.clock,
            emit=self.listener,
            find_function=self.find_function,
            tracer=self.tracer,
        )
        return self.fallback.stacks.setdefault(index, made)

    def _counts(self, call: Call, error: Exception) -> bool:
        section = self.policy.circuit_breaker
        if section is None or not section.count.matches(classify_error(error), http_status(error)):
            return False
        if was_ended(call.terms.clock):
            return False  # nobody waited for it any longer: it ended for that
        return self.timing.was_enough(call, error)

    def _has_queued(self, call: Call) -> None:
        """Note that an attempt had to wait: its time begins now."""
        now = self.clock.monotonic()
        waited, call.attempt_started, call.queued = now - call.attempt_started, now, True
        self.report(CallQueued, waited)
