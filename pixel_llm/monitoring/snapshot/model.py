"""A snapshot: all that the stacks of one policy know at a moment. Durations are seconds, moments seconds since 1970."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pixel_llm.resilience.counters import BOUNDS, Histogram

#: A sum that is only known by buckets is off by this share at most: a bucket's upper bound is twice its lower one, and
#: its calls are taken to have lasted two thirds of the upper.
SUM_ERROR = 1 / 3

#: A quantile lies in the right bucket, so it is off by this factor at most, either way.
QUANTILE_FACTOR = 2.0

#: What a call of each bucket is taken to have lasted.
_TYPICAL = (*(bound * 2 / 3 for bound in BOUNDS), BOUNDS[-1])

_NONE: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentError:
    """An error that an attempt or a call ended in; *code* is ``unknown`` for what no code of ours describes."""

    at: float
    target: str
    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSnapshot:
    """
    A circuit breaker.

    Attributes:
        key: What it is for, where its target has one for each key; else empty.
        state: ``closed``, ``open`` or ``half_open``; of a shadow, the state that it would have.
        failures: Failures in a row, counted so far.
        shadow: Whether it only watches.
        refuses: Whether a call would be refused now. An open one whose cooldown is over waits for a call to try.
        retry_after: Seconds until an open one lets a trial through; None if it is not open, or is forced open.
        changed_at: When it changed its state last; None if it never has.
    """

    key: str
    state: str
    failures: int = 0
    shadow: bool = False
    refuses: bool = False
    retry_after: float | None = None
    changed_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkheadSnapshot:
    """Calls under way, how many may be, how many wait, and how many may wait."""

    in_use: int
    limit: int
    waiting: int
    max_waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitSnapshot:
    """
    Starts in the last *period* seconds and how many may be, None where only tokens are limited; how many wait.

    *tokens_left* is the level of the token bucket; None without one.
    """

    started: int
    max_calls: int | None
    period: float | None
    waiting: int
    tokens_left: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudgetSnapshot:
    """
    Retries granted in the budget's window, and how many may be. *name* is empty for a target's own budget.

    *allowed* is a share of the calls and need be no whole number; retries are granted while they stay within it.
    """

    name: str
    spent: int
    allowed: float

    @property
    def ratio(self) -> float:
        """The share that is spent of those it grants, 0 to 1: it is 1 where the next one would be refused."""
        grants = max(0, math.floor(self.allowed))
        return min(self.spent, grants) / grants if grants else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentCalls:
    """
    Calls that have ended within the last minute. What the caller's own input was refused for is not among them.

    Attributes:
        succeeded: Those that succeeded. Between two snapshots they are taken to have come evenly.
        failed: Those that failed, served by a fallback or not, less the next ones.
        refused: Those that failed since a rate limit or a bulkhead refused them.
    """

    succeeded: int = 0
    failed: int = 0
    refused: int = 0

    @property
    def calls(self) -> int:
        """All of them."""
        return self.succeeded + self.failed + self.refused


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadsSnapshot:
    """
    How often the policy was loaded again, and how often that failed, which changes nothing.

    *last_failed* says that the latest try failed: the policy in force is an older one.
    """

    succeeded: int = 0
    failed: int = 0
    last_failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSnapshot:
    """
    What has become of the calls of one target, and what its layers hold now.

    A call has succeeded or failed; *recovered* are among those that succeeded, *fallbacks* served for some of those
    that failed. Counters only ever grow.

    Attributes:
        target: Its name. A place of a target has its own, such as ``lm_studio.chat[endpoint=http://…]``.
        succeeded: Calls whose value came from the callable or the read-through cache.
        failed: Calls that failed for good, whether a fallback served or not.
        recovered: Calls that succeeded after failed attempts.
        attempts_succeeded: Attempts that gave a value: one for each call that succeeded, but for those of a cache.
        attempts_failed: Attempts that ended in an error, streams that broke included.
        retries: How often a call was tried again.
        cache_hits: Calls that the read-through cache served.
        cache_misses: Calls that it could not serve.
        shared_calls: Calls that got the result of an equal call under way.
        refusals: By layer and code.
        fallbacks: By the step that served.
        errors: Calls that failed, by code.
        attempt_errors: Attempts that failed, by code.
        events: How often each event was reported, by its name.
        latency: How long the calls that succeeded took, waits included.
        deadline: Seconds that a call may take in all; None without a limit.
        attempt_timeout: Seconds that an attempt may take; None without a limit.
        breakers: Its circuit breakers, by key.
        bulkhead: Its bulkhead.
        rate_limit: Its rate limit.
        retry_budget: Its retry budget.
        abandoned_threads: Threads that run on although their callers have left.
        max_abandoned_threads: At so many, calls are refused.
        last_error: The last error of an attempt or a call; that an open circuit breaker refuses follows from others,
            and is only told where there are none.
        recent: Its calls of the last minute; None in a document of an earlier package.
        has_fallback: Whether something may serve for a call that failed.
    """

    target: str
    succeeded: int = 0
    failed: int = 0
    recovered: int = 0
    attempts_succeeded: int = 0
    attempts_failed: int = 0
    retries: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    shared_calls: int = 0
    refusals: Mapping[tuple[str, str], int] = field(default_factory=lambda: MappingProxyType({}))
    fallbacks: Mapping[str, int] = field(default_factory=lambda: _NONE)
    errors: Mapping[str, int] = field(default_factory=lambda: _NONE)
    attempt_errors: Mapping[str, int] = field(default_factory=lambda: _NONE)
    events: Mapping[str, int] = field(default_factory=lambda: _NONE)
    latency: Histogram = field(default_factory=lambda: Histogram(BOUNDS, (0,) * (len(BOUNDS) + 1)))
    deadline: float | None = None
    attempt_timeout: float | None = None
    breakers: tuple[BreakerSnapshot, ...] = ()
    bulkhead: BulkheadSnapshot | None = None
    rate_limit: RateLimitSnapshot | None = None
    retry_budget: RetryBudgetSnapshot | None = None
    abandoned_threads: int = 0
    max_abandoned_threads: int = 0
    last_error: RecentError | None = None
    recent: RecentCalls | None = None
    has_fallback: bool = False

    @property
    def calls(self) -> int:
        """Calls that have ended."""
        return self.succeeded + self.failed

    @property
    def degraded(self) -> int:
        """Calls that a fallback served."""
        return sum(self.fallbacks.values())

    @property
    def latency_sum(self) -> float:
        """About how long the calls that succeeded took together; off by a third at most, see :data:`SUM_ERROR`."""
        return sum(map(float.__mul__, _TYPICAL, map(float, self.latency.counts)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """
    The stacks of one policy at a moment.

    It is consistent in itself: what is a part of something else (recovered calls, fallbacks, the buckets of the
    histogram) was read so that it never exceeds the whole, whatever other threads do meanwhile.

    Attributes:
        profile: The profile's name.
        version: The version of the package that made it.
        taken_at: When it was taken.
        since: Since when is counted.
        targets: The targets, by name.
        recent_errors: The last errors of calls of all targets, the latest first; refusals of open circuit breakers
            aside, as in ``last_error``.
        reloads: How often the policy was loaded again.
    """

    profile: str
    version: str
    taken_at: float
    since: float
    targets: Mapping[str, TargetSnapshot]
    recent_errors: tuple[RecentError, ...] = ()
    reloads: ReloadsSnapshot = ReloadsSnapshot()
