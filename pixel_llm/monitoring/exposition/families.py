"""The metrics, in one table: names, types, labels, what they mean, and how they are read from snapshots."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Generic, TypeVar

from pixel_llm.monitoring.snapshot.merging import STATES
from pixel_llm.monitoring.snapshot.model import BreakerSnapshot, Snapshot, TargetSnapshot
from pixel_llm.resilience.counters import BOUNDS

#: Of a target's breakers so many have series of their own; the others are counted under the key ``other``.
MAX_KEYS = 50

#: What stands for all keys beyond :data:`MAX_KEYS`.
OTHER = "other"

#: The buckets of the stacks' histogram that are exported: from 1 ms to 9 minutes, each twice the one before.
FIRST_BUCKET, LAST_BUCKET = 10, 29

#: Upper bounds of the buckets in seconds.
BUCKETS = BOUNDS[FIRST_BUCKET : LAST_BUCKET + 1]

#: What a metric is read from: the snapshot of a policy, or of one of its targets.
S = TypeVar("S", Snapshot, TargetSnapshot)

#: Label values after those that say whose they are, and the number.
Sample = tuple[tuple[str, ...], float]

_ALONE: tuple[str, ...] = ()

#: Events that have no metric of their own.
OTHER_EVENTS = (
    "abandoned_thread_ended",
    "call_queued",
    "call_would_be_refused",
    "chaos_injected",
    "fallback_skipped",
    "hedge_sent",
    "hedge_skipped",
    "hedge_won",
    "model_load_failed",
    "model_loaded",
    "model_mismatched",
    "stream_abandoned",
    "stream_broken",
    "thread_abandoned",
)


class Kind(StrEnum):
    """The types that Prometheus knows, as far as they are used."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family(Generic[S]):
    """
    One metric, of a policy or of each of its targets.

    Attributes:
        name: Its name, with its unit; counters end in ``_total``.
        kind: Its type.
        labels: Its labels after ``profile``, which all have, and ``target``, which those of targets have.
        help: What it means.
        read: Gives its samples for a policy or a target; none where that lacks what it is about. A histogram is read
            by :func:`buckets`.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    read: Callable[[S], Iterable[Sample]]


def buckets(target: TargetSnapshot) -> list[int]:
    """The cumulated counts of :data:`BUCKETS`, and of all calls."""
    counts = target.latency.counts
    shown = (
        sum(counts[: FIRST_BUCKET + 1]),
        *counts[FIRST_BUCKET + 1 : LAST_BUCKET + 1],
        sum(counts[LAST_BUCKET + 1 :]),
    )
    return list(accumulate(shown))


def _build_info(policy: Snapshot) -> Iterable[Sample]:
    return (((policy.version, platform.python_version()), 1),)


def _started(policy: Snapshot) -> Iterable[Sample]:
    return ((_ALONE, policy.since),)


def _reloads(policy: Snapshot) -> Iterable[Sample]:
    return (("succeeded",), policy.reloads.succeeded), (("failed",), policy.reloads.failed)


def _last_reload(policy: Snapshot) -> Iterable[Sample]:
    return ((_ALONE, int(not policy.reloads.last_failed)),)


def _calls(target: TargetSnapshot) -> Iterable[Sample]:
    return (("succeeded",), target.succeeded), (("failed",), target.failed)


def _attempts(target: TargetSnapshot) -> Iterable[Sample]:
    return (("succeeded",), target.attempts_succeeded), (("failed",), target.attempts_failed)


def _recovered(target: TargetSnapshot) -> Iterable[Sample]:
    return ((_ALONE, target.recovered),)


def _retries(target: TargetSnapshot) -> Iterable[Sample]:
    return ((_ALONE, target.retries),)


def _errors(target: TargetSnapshot) -> Iterable[Sample]:
    return (((code,), count) for code, count in target.errors.items())


def _attempt_errors(target: TargetSnapshot) -> Iterable[Sample]:
    return (((code,), count) for code, count in target.attempt_errors.items())


def _refusals(target: TargetSnapshot) -> Iterable[Sample]:
    return target.refusals.items()


def _fallbacks(target: TargetSnapshot) -> Iterable[Sample]:
    return (((step,), count) for step, count in target.fallbacks.items())


def _cache(target: TargetSnapshot) -> Iterable[Sample]:
    if target.cache_hits or target.cache_misses or target.shared_calls:
        yield ("hit",), target.cache_hits
        yield ("miss",), target.cache_misses
        yield ("shared",), target.shared_calls


def _events(target: TargetSnapshot) -> Iterable[Sample]:
    return (((name,), target.events[name]) for name in OTHER_EVENTS if name in target.events)


#: The samples of a target's only breaker, by its state: most targets have just that.
_ONE_BREAKER = {state: tuple((("", one), int(one == state)) for one in STATES) for state in STATES}


def _states(target: TargetSnapshot) -> Iterable[Sample]:
    return _states_of([breaker for breaker in target.breakers if not breaker.shadow])


def _shadow_states(target: TargetSnapshot) -> Iterable[Sample]:
    return _states_of([breaker for breaker in target.breakers if breaker.shadow])


def _states_of(breakers: list[BreakerSnapshot]) -> Iterable[Sample]:
    if len(breakers) == 1 and not breakers[0].key:
        return _ONE_BREAKER[breakers[0].state]
    return _states_by_key(breakers) if breakers else ()


def _states_by_key(breakers: Iterable[BreakerSnapshot]) -> Iterator[Sample]:
    # Users make the keys: two may look alike as labels, then the worse state stands for both; and one may be "other".
    worst: dict[str, int] = {}
    for breaker in breakers:
        key, rank = sendable(breaker.key), STATES.index(breaker.state)
        worst[key] = min(rank, worst.get(key, rank))
    shown = sorted(worst)
    if len(shown) > MAX_KEYS:
        shown = [key for key in shown if key != OTHER][:MAX_KEYS]
    for key in shown:
        rank = worst.pop(key)
        for number, state in enumerate(STATES):
            yield (key, state), int(number == rank)
    if worst:
        rest = Counter(worst.values())
        for number, state in enumerate(STATES):
            yield (OTHER, state), rest[number]


def sendable(text: str) -> str:
    """*text* as it can be sent: a lone surrogate, as in a key that is no Unicode, is escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def _bulkhead_in_use(target: TargetSnapshot) -> Iterable[Sample]:
    return () if target.bulkhead is None else ((_ALONE, target.bulkhead.in_use),)


def _bulkhead_limit(target: TargetSnapshot) -> Iterable[Sample]:
    return () if target.bulkhead is None else ((_ALONE, target.bulkhead.limit),)


def _bulkhead_waiting(target: TargetSnapshot) -> Iterable[Sample]:
    return () if target.bulkhead is None else ((_ALONE, target.bulkhead.waiting),)


def _bulkhead_max_waiting(target: TargetSnapshot) -> Iterable[Sample]:
    return () if target.bulkhead is None else ((_ALONE, target.bulkhead.max_waiting),)


def _rate_started(target: TargetSnapshot) -> Iterable[Sample]:
    limit = target.rate_limit
    return () if limit is None or limit.max_calls is None else ((_ALONE, limit.started),)


def _rate_max(target: TargetSnapshot) -> Iterable[Sample]:
    limit = target.rate_limit
    return () if limit is None or limit.max_calls is None else ((_ALONE, limit.max_calls),)


def _rate_waiting(target: TargetSnapshot) -> Iterable[Sample]:
    return () if target.rate_limit is None else ((_ALONE, target.rate_limit.waiting),)


def _budget(target: TargetSnapshot) -> Iterable[Sample]:
    budget = target.retry_budget
    return () if budget is None else (((budget.name,), budget.ratio),)


def _abandoned(target: TargetSnapshot) -> Iterable[Sample]:
    return () if not target.max_abandoned_threads else ((_ALONE, target.abandoned_threads),)


def _abandoned_limit(target: TargetSnapshot) -> Iterable[Sample]:
    return () if not target.max_abandoned_threads else ((_ALONE, target.max_abandoned_threads),)


def _last_error(target: TargetSnapshot) -> Iterable[Sample]:
    return () if target.last_error is None else ((_ALONE, target.last_error.at),)


def _deadline(target: TargetSnapshot) -> Iterable[Sample]:
    return () if target.deadline is None else ((_ALONE, target.deadline),)


def _timeout(target: TargetSnapshot) -> Iterable[Sample]:
    return () if target.attempt_timeout is None else ((_ALONE, target.attempt_timeout),)


_COUNTER, _GAUGE, _HISTOGRAM = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

#: The histogram, whose name is used where its parts are written.
DURATION: Family[TargetSnapshot] = Family(
    "pixel_llm_call_duration_seconds",
    _HISTOGRAM,
    (),
    "How long calls took that succeeded, waits included. The sum is reckoned from the buckets and off by a third at "
    "most; counts are exact.",
    lambda target: (),
)

# fmt: off
#: Of a policy.
POLICY_FAMILIES: tuple[Family[Snapshot], ...] = (
    Family("pixel_llm_build_info", _GAUGE, ("version", "python_version"),
           "1, with the versions of the package and of Python.", _build_info),
    Family("pixel_llm_started_timestamp_seconds", _GAUGE, (),
           "Since when is counted, in seconds since 1970.", _started),
    Family("pixel_llm_policy_reloads_total", _COUNTER, ("outcome",),
           "How often the policy was to be loaded again: succeeded, or failed, which changes nothing.", _reloads),
    Family("pixel_llm_policy_last_reload_successful", _GAUGE, (),
           "0 while the policy in force is an older one, since the latest could not be loaded; else 1.", _last_reload),
)

#: Of each target.
FAMILIES: tuple[Family[TargetSnapshot], ...] = (
    Family("pixel_llm_calls_total", _COUNTER, ("outcome",),
           "Calls that have ended: succeeded, or failed for good, whether a fallback served then or not.", _calls),
    Family("pixel_llm_calls_recovered_total", _COUNTER, (),
           "Calls that succeeded after failed attempts; they are among those that succeeded.", _recovered),
    DURATION,
    Family("pixel_llm_attempts_total", _COUNTER, ("outcome",),
           "Attempts that have ended: succeeded or failed.", _attempts),
    Family("pixel_llm_attempt_errors_total", _COUNTER, ("error_code",),
           "Attempts that failed, by error code, whether their calls recovered or not.", _attempt_errors),
    Family("pixel_llm_retries_total", _COUNTER, (), "How often a call was tried again.", _retries),
    Family("pixel_llm_errors_total", _COUNTER, ("error_code",),
           "Calls that failed for good, by error code; unknown where no code describes the error.", _errors),
    Family("pixel_llm_refusals_total", _COUNTER, ("layer", "error_code"),
           "Calls that a layer refused without trying them.", _refusals),
    Family("pixel_llm_fallbacks_total", _COUNTER, ("step",),
           "Calls that failed and that a fallback step served.", _fallbacks),
    Family("pixel_llm_cache_requests_total", _COUNTER, ("result",),
           "Looks into the read-through cache: hit, miss, or shared with an equal call under way.", _cache),
    Family("pixel_llm_events_total", _COUNTER, ("event",),
           "Events that have no metric of their own, by their name in the log.", _events),
    Family("pixel_llm_circuit_state", _GAUGE, ("key", "state"),
           "1 for the state that a circuit breaker is in, 0 for the others. The key is empty for a target's only "
           "breaker; for the key other it is the number of breakers in the state. Shadows have a metric of their own.",
           _states),
    Family("pixel_llm_circuit_shadow_state", _GAUGE, ("key", "state"),
           "The same for circuit breakers with mode: shadow, which refuse nobody: the state that each would be in.",
           _shadow_states),
    Family("pixel_llm_bulkhead_in_use", _GAUGE, (), "Calls under way in the bulkhead.", _bulkhead_in_use),
    Family("pixel_llm_bulkhead_limit", _GAUGE, (), "How many may be under way now.", _bulkhead_limit),
    Family("pixel_llm_bulkhead_waiting", _GAUGE, (), "Calls that wait for a slot of the bulkhead.", _bulkhead_waiting),
    Family("pixel_llm_bulkhead_max_waiting", _GAUGE, (), "How many may wait.", _bulkhead_max_waiting),
    Family("pixel_llm_rate_limit_started", _GAUGE, (),
           "Calls that started within the rate limit's last period.", _rate_started),
    Family("pixel_llm_rate_limit_max_calls", _GAUGE, (), "How many may start in a period.", _rate_max),
    Family("pixel_llm_rate_limit_waiting", _GAUGE, (), "Calls that wait for their turn.", _rate_waiting),
    Family("pixel_llm_retry_budget_ratio", _GAUGE, ("budget",),
           "The share that is spent of the retries that the budget grants, 0 to 1: at 1 it refuses. budget is empty "
           "for a target's own.", _budget),
    Family("pixel_llm_abandoned_threads", _GAUGE, (),
           "Threads that run on although their callers have left.", _abandoned),
    Family("pixel_llm_abandoned_threads_limit", _GAUGE, (), "At so many, calls are refused.", _abandoned_limit),
    Family("pixel_llm_last_error_timestamp_seconds", _GAUGE, (),
           "When an attempt or a call last ended in an error, in seconds since 1970; refusals of an open circuit "
           "breaker, which follow from other errors, aside.", _last_error),
    Family("pixel_llm_deadline_seconds", _GAUGE, (), "How long a call may take in all, by the policy.", _deadline),
    Family("pixel_llm_attempt_timeout_seconds", _GAUGE, (), "How long an attempt may take, by the policy.", _timeout),
)
# fmt: on
