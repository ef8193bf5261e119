"""
From stacks to a snapshot.

Nothing stops while it is read, so the order matters: a part is read before the whole it belongs to. A stack counts a
success before it reports that the call recovered, and a failure before it reports that a fallback served.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING

from pixel_llm.monitoring.snapshot.model import (
    BreakerSnapshot,
    BulkheadSnapshot,
    RateLimitSnapshot,
    RetryBudgetSnapshot,
    Snapshot,
    TargetSnapshot,
)
from pixel_llm.policy.sections.circuit_breaker import BreakerMode
from pixel_llm.resilience import CircuitBreaker, RetryBudget, Stack
from pixel_llm.resilience.breaker.words import breaker_label
from pixel_llm.resilience.queues.rate_limit import RateLimit

if TYPE_CHECKING:
    from pixel_llm.monitoring.tally import Tally, TargetTally


def read_snapshot(stacks: Iterable[Stack], tally: Tally, *, profile: str, version: str) -> Snapshot:
    """What *stacks* know now, those of their places and of their fallbacks' targets included."""
    budgets: dict[RetryBudget, RetryBudgetSnapshot] = {}  # several targets may share one
    monotonic = tally.monotonic()
    targets = {
        stack.target: read_target(stack, tally.of(stack.target), budgets, monotonic) for stack in _with_places(stacks)
    }
    return Snapshot(
        profile=profile,
        version=version,
        taken_at=tally.now(),
        since=tally.since,
        targets=MappingProxyType(targets),
        recent_errors=tally.recent(),
        reloads=tally.reloads(),
    )


def read_target(
    stack: Stack, tally: TargetTally, budgets: dict[RetryBudget, RetryBudgetSnapshot], now: float
) -> TargetSnapshot:
    """
    What one *stack* knows *now*, a moment of the monotonic clock.

    *tally* is what it has told, *budgets* are those that were read already.
    """
    refusals, fallbacks = tally.refusals.read(), tally.fallbacks.read()
    errors, attempt_errors = tally.errors.read(), tally.attempt_errors.read()
    happened = stack.counters.happened
    recovered, hits, shared = happened("call_recovered"), happened("cache_hit"), happened("shared_call")
    stats = stack.stats()
    events = stats.happened | tally.events.read()
    # A call that a cache serves is counted twice: as served, then as a success. These here were read the other way
    # round, so that no success of a cache is taken for an attempt. The difference may be too small for a moment, but a
    # counter must never go back.
    made = stats.succeeded - events.get("cache_hit", 0) - events.get("shared_call", 0)
    attempts_succeeded = tally.attempts.raised_to(max(0, made))
    admission = stack.admission if stack.over_routes is None else None
    bulkhead = admission.bulkhead if admission is not None else None
    rate_limit = admission.rate_limit if admission is not None else None
    threads = vars(stack).get("abandoned_threads")  # made when the first call needs it
    return TargetSnapshot(
        target=stack.target,
        succeeded=stats.succeeded,
        failed=stats.failed,
        recovered=recovered,
        attempts_succeeded=attempts_succeeded,
        attempts_failed=events.get("attempt_failed", 0) + events.get("stream_broken", 0),
        retries=events.get("retry_scheduled", 0),
        cache_hits=hits,
        cache_misses=events.get("cache_miss", 0),
        shared_calls=shared,
        refusals=refusals,
        fallbacks=fallbacks,
        errors=errors,
        attempt_errors=attempt_errors,
        events=events,
        latency=stats.latency,
        deadline=stack.policy.deadline,
        attempt_timeout=stack.timing.attempt_timeout,
        breakers=tuple(_breakers(stack, tally)),
        bulkhead=None
        if bulkhead is None
        else BulkheadSnapshot(
            in_use=bulkhead.in_use,
            limit=bulkhead.limit,
            waiting=bulkhead.waiting,
            max_waiting=bulkhead.config.max_waiting,
        ),
        rate_limit=None if rate_limit is None else _rate_limit(rate_limit, stack.clock.monotonic()),
        retry_budget=_retry_budget(stack, budgets),
        abandoned_threads=0 if threads is None else threads.count,
        max_abandoned_threads=0 if threads is None else threads.limit,
        last_error=tally.last_error,
        recent=tally.recent.look(now, stats.succeeded),
        has_fallback=stack.fallback is not None,
    )


def _with_places(stacks: Iterable[Stack]) -> Iterator[Stack]:
    for stack in stacks:
        yield stack
        if stack.over_routes is not None:
            yield from list(stack.over_routes.routes.values())
        if stack.fallback is not None:
            yield from list(stack.fallback.stacks.values())


def _breakers(stack: Stack, tally: TargetTally) -> Iterator[BreakerSnapshot]:
    if stack.over_routes is not None:
        return  # each place has its own
    if stack.breakers is not None:
        for key, breaker in stack.breakers.items():
            yield _breaker(breaker, breaker_label(key), tally)
    elif stack.breaker is not None:
        yield _breaker(stack.breaker, "", tally)


def _breaker(breaker: CircuitBreaker, key: str, tally: TargetTally) -> BreakerSnapshot:
    wait = breaker.retry_after()
    return BreakerSnapshot(
        key=key,
        state=breaker.state.value,
        failures=breaker.failures,
        shadow=breaker.config.mode is BreakerMode.SHADOW,
        refuses=breaker.would_refuse(),
        retry_after=wait if 0 < wait < inf else None,
        changed_at=tally.changed_at.get(key),
    )


def _rate_limit(limit: RateLimit, now: float) -> RateLimitSnapshot:
    config = limit.config
    period = config.period if config.max_calls is not None else None
    started = 0
    if period is not None:
        starts = limit.starts
        started = len(starts) - bisect_right(starts, now - period)
    return RateLimitSnapshot(
        started=started,
        max_calls=config.max_calls,
        period=period,
        waiting=limit.waiting,
        tokens_left=None if limit.tokens is None else limit.tokens.level(now),
    )


def _retry_budget(stack: Stack, known: dict[RetryBudget, RetryBudgetSnapshot]) -> RetryBudgetSnapshot | None:
    if stack.budget is None:
        return None
    budget = stack.budget.budget
    if budget not in known:
        spent, allowed = budget.used()
        known[budget] = RetryBudgetSnapshot(name=budget.name, spent=spent, allowed=allowed)
    return known[budget]
