"""Several policies of one profile, such as those of several models in a process, as one."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from types import MappingProxyType
from typing import TypeVar

from pixel_llm.monitoring.snapshot.model import (
    BreakerSnapshot,
    BulkheadSnapshot,
    RateLimitSnapshot,
    RecentCalls,
    RecentError,
    ReloadsSnapshot,
    RetryBudgetSnapshot,
    Snapshot,
    TargetSnapshot,
)
from pixel_llm.resilience.counters import Histogram

#: The counters of a target, which add up.
_ADDED = (
    "succeeded",
    "failed",
    "recovered",
    "attempts_succeeded",
    "attempts_failed",
    "retries",
    "cache_hits",
    "cache_misses",
    "shared_calls",
    "abandoned_threads",
    "max_abandoned_threads",
)

#: The worst first: what stands for several breakers of the same name.
STATES = ("open", "half_open", "closed")

T = TypeVar("T")
K = TypeVar("K")


def merged(snapshots: Iterable[Snapshot]) -> tuple[Snapshot, ...]:
    """
    One snapshot for each profile.

    Counters add up, and so do calls under way and limits. Of breakers of the same name the worst state counts, of
    retry budgets the one that is spent most, of errors the latest.
    """
    by_profile: dict[str, Snapshot] = {}
    for snapshot in snapshots:
        known = by_profile.get(snapshot.profile)
        by_profile[snapshot.profile] = snapshot if known is None else _both(known, snapshot)
    return tuple(by_profile.values())


def _both(one: Snapshot, other: Snapshot) -> Snapshot:
    targets = dict(one.targets)
    for name, target in other.targets.items():
        targets[name] = target if name not in targets else _both_targets(targets[name], target)
    errors = sorted((*one.recent_errors, *other.recent_errors), key=lambda error: -error.at)
    return dataclasses.replace(
        one,
        taken_at=max(one.taken_at, other.taken_at),
        since=min(one.since, other.since),
        targets=MappingProxyType(targets),
        recent_errors=tuple(errors[: max(len(one.recent_errors), len(other.recent_errors))]),
        reloads=_reloads(one.reloads, other.reloads),
    )


def _reloads(one: ReloadsSnapshot, other: ReloadsSnapshot) -> ReloadsSnapshot:
    return ReloadsSnapshot(
        succeeded=one.succeeded + other.succeeded,
        failed=one.failed + other.failed,
        last_failed=one.last_failed or other.last_failed,
    )


def _both_targets(one: TargetSnapshot, other: TargetSnapshot) -> TargetSnapshot:
    return dataclasses.replace(
        one,
        **{name: getattr(one, name) + getattr(other, name) for name in _ADDED},
        refusals=_sum(one.refusals, other.refusals),
        fallbacks=_sum(one.fallbacks, other.fallbacks),
        errors=_sum(one.errors, other.errors),
        attempt_errors=_sum(one.attempt_errors, other.attempt_errors),
        events=_sum(one.events, other.events),
        latency=Histogram(
            one.latency.bounds, tuple(a + b for a, b in zip(one.latency.counts, other.latency.counts, strict=True))
        ),
        breakers=_breakers((*one.breakers, *other.breakers)),
        bulkhead=_one_of(one.bulkhead, other.bulkhead, _bulkheads),
        rate_limit=_one_of(one.rate_limit, other.rate_limit, _rate_limits),
        retry_budget=_one_of(one.retry_budget, other.retry_budget, _budgets),
        last_error=_one_of(one.last_error, other.last_error, _latest),
        recent=_one_of(one.recent, other.recent, _recent),
    )


def _sum(one: Mapping[K, int], other: Mapping[K, int]) -> dict[K, int]:
    return dict(Counter(one) + Counter(other))


def _one_of(one: T | None, other: T | None, both: Callable[[T, T], T]) -> T | None:
    there = [part for part in (one, other) if part is not None]
    return reduce(both, there) if there else None


def _breakers(breakers: Iterable[BreakerSnapshot]) -> tuple[BreakerSnapshot, ...]:
    worst: dict[tuple[str, bool], BreakerSnapshot] = {}
    for breaker in breakers:
        which = breaker.key, breaker.shadow
        known = worst.get(which)
        if known is None or STATES.index(breaker.state) < STATES.index(known.state):
            worst[which] = breaker
    return tuple(worst.values())


def _bulkheads(one: BulkheadSnapshot, other: BulkheadSnapshot) -> BulkheadSnapshot:
    return BulkheadSnapshot(
        in_use=one.in_use + other.in_use,
        limit=one.limit + other.limit,
        waiting=one.waiting + other.waiting,
        max_waiting=one.max_waiting + other.max_waiting,
    )


def _rate_limits(one: RateLimitSnapshot, other: RateLimitSnapshot) -> RateLimitSnapshot:
    return dataclasses.replace(
        one,
        started=one.started + other.started,
        max_calls=None if one.max_calls is None or other.max_calls is None else one.max_calls + other.max_calls,
        waiting=one.waiting + other.waiting,
        tokens_left=None
        if one.tokens_left is None or other.tokens_left is None
        else one.tokens_left + other.tokens_left,
    )


def _budgets(one: RetryBudgetSnapshot, other: RetryBudgetSnapshot) -> RetryBudgetSnapshot:
    return max(one, other, key=lambda budget: budget.ratio)


def _recent(one: RecentCalls, other: RecentCalls) -> RecentCalls:
    return RecentCalls(
        succeeded=one.succeeded + other.succeeded,
        failed=one.failed + other.failed,
        refused=one.refused + other.refused,
    )


def _latest(one: RecentError, other: RecentError) -> RecentError:
    return max(one, other, key=lambda error: error.at)
