"""What must hold for each call."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator

from pixel_llm.errors import CircuitBreakerOpen, LimitExceeded, RetryExhausted, classify_error, http_status
from pixel_llm.policy import CacheConfig, FallbackStrategy, TargetPolicy
from pixel_llm.policy.sections.matching import NOTHING_SENT
from pixel_llm.resilience.outcome import SERVED_BY_CACHE_HIT, SERVED_BY_CALL, SERVED_BY_SHARED_CALL
from soak.invariants.case import GRAIN, Case, or_inf
from soak.policies import BANK
from soak.records import Value

#: Results that another call has brought.
_FROM_OTHERS = (SERVED_BY_CACHE_HIT, SERVED_BY_SHARED_CALL)


def _ends_once(case: Case) -> Iterator[str]:
    if case.call.ends != 1:
        yield f"ended {case.call.ends} times"


def _attempts(case: Case) -> Iterator[str]:
    call, bounds = case.call, case.bounds
    if len(call.attempts) > bounds.worst_attempts:
        yield f"{len(call.attempts)} attempts, though {bounds.worst_attempts} is the most"
    functions = sum(step.strategy is FallbackStrategy.CUSTOM_FUNCTION for step in case.all_steps)
    if len(call.attempts) + len(call.elsewhere) > bounds.worst_upstream_calls + functions:
        everything = f"{len(call.attempts)} attempts and {len(call.elsewhere)} elsewhere"
        yield f"{everything}, though {bounds.worst_upstream_calls} is the most in all"


def _in_time(case: Case) -> Iterator[str]:
    call, policy = case.call, case.policy
    elapsed = call.ended_at - call.begins
    late = [attempt.begins for attempt in call.attempts if attempt.begins >= case.attempts_end + case.slack]
    if late:
        yield f"an attempt began {late[0] - call.begins:g} s after it, the deadline being {policy.deadline:g} s"
    limit = min(or_inf(policy.deadline), or_inf(case.bounds.worst_latency))
    if not case.is_interruptible or call.is_stream or elapsed <= limit + case.slack:
        return
    limit = min(or_inf(policy.deadline), case.longest_in_queues_of_others())
    if elapsed > limit + case.slack:
        yield f"took {elapsed:g} s, though {limit:g} s is the longest"
    if call.cancelled is not None and call.ended_at > call.cancelled + case.slack:
        yield f"ended {call.ended_at - call.cancelled:g} s after it was cancelled"


def _cancellation_arrives(case: Case) -> Iterator[str]:
    call = case.call
    if call.cancelled is not None and call.state not in ("cancelled", "interrupted"):
        yield f"was cancelled, and ended with {call.state} {call.error or call.value!r}"
    if call.cancelled is None and call.state == "cancelled" and not call.is_nested:
        yield "ended as if cancelled, which it was not"


def _no_attempt_outlives_it(case: Case) -> Iterator[str]:
    if case.runs_on:
        return
    for number, attempt in enumerate((*case.call.attempts, *case.call.elsewhere)):
        if attempt.ends is None or attempt.ends > case.call.ended_at + case.play.blocked:
            yield f"attempt {number} ran on after it"


def _what_is_not_retried(case: Case) -> Iterator[str]:
    policy = case.policy
    chaos = policy.chaos.delay if policy.chaos is not None else None
    delayed = chaos.duration if chaos is not None else 0.0  # before the callable is called, and within the timeout
    for number, attempt in enumerate(case.call.attempts[:-1]):
        if policy.retry is None or policy.hedge is not None or attempt.raised is None or attempt.ends is None:
            continue
        if attempt.ends - attempt.begins >= case.attempt_timeout - case.play.blocked - delayed:
            continue  # perhaps it had been given up before
        classification = classify_error(attempt.raised)
        retried = policy.retry.retry_on.retries(classification, http_status(attempt.raised))
        sent = policy.idempotent is False and classification.error_code not in NOTHING_SENT
        if not retried or sent:
            yield f"attempt {number} failed of {attempt.raised!r}, and was tried again"


def _value(case: Case) -> Iterator[str]:
    call, policy = case.call, case.policy
    if call.state != "value" or call.is_stream:
        return
    value = call.value
    if not isinstance(value, Value):
        if not any(value == given for given in given_by(case)):
            yield f"got {value!r}, which nobody gives"
        if call.outcome is not None and call.outcome.served_by in _FROM_OTHERS and value != "chaos":
            yield f"got {value!r} from a cache that must not keep it"
        return
    if value.key != call.plan.key:
        yield f"got the value of key {value.key}, its own being {call.plan.key}"
    if value.made < call.begins:
        limit = max((cache.ttl for cache in caches_of(case)), default=0.0)
        if call.outcome is not None and call.outcome.served_by == SERVED_BY_CACHE_HIT and policy.cache is not None:
            limit = policy.cache.ttl
        if call.ended_at - value.made >= limit + case.play.blocked:
            yield f"got a value that was {call.ended_at - value.made:g} s old, the limit being {limit:g} s"


def _served_by(case: Case) -> Iterator[str]:
    """Who is said to have served has made the value."""
    call = case.call
    if call.outcome is None or not isinstance(call.value, Value):
        return
    made_at, served_by = case.play.attempts[call.value.attempt].place, call.outcome.served_by
    target = case.play.place_of(call)
    places = {f"{step.strategy}:{step.value}": f"{target}[{step.strategy}={step.value}]" for step in case.steps}
    function = f"{FallbackStrategy.CUSTOM_FUNCTION}:{made_at}"
    bank = f"{FallbackStrategy.TARGET}:{BANK}"
    if served_by not in (bank, function) and made_at != places.get(served_by, target):
        yield f"its outcome says that {served_by} served, and {made_at} did"


def caches_of(case: Case) -> list[CacheConfig]:
    """The caches that a value of the call's may come from."""
    bank = case.play.schedule.bank if case.may_go_to_the_bank else None
    policies = [case.policy] if bank is None else [case.policy, bank]
    caches = [step.cache for policy in policies for step in policy.fallback or () if step.cache is not None]
    return [*caches, *(policy.cache for policy in policies if policy.cache is not None)]


def given_by(case: Case) -> list[object]:
    """What may be served in place of a value of the callable's."""
    words = {FallbackStrategy.DEFAULT_VALUE: "default"}
    given: list[object] = [
        words.get(step.strategy) for step in case.all_steps if step.strategy in (*words, FallbackStrategy.NONE)
    ]
    # What chaos has made may have been kept under a policy before.
    bank = case.play.schedule.bank
    policies = case.play.targets.policies if bank is None else [*case.play.targets.policies, bank]
    return given if all(policy.chaos is None for policy in policies) else [*given, "chaos"]


def _outcome(case: Case) -> Iterator[str]:
    call, outcome = case.call, case.call.outcome
    if outcome is None:
        return
    if outcome.degraded == (outcome.served_by in (SERVED_BY_CALL, *_FROM_OTHERS)):
        yield f"its outcome says degraded={outcome.degraded} of {outcome.value!r} by {outcome.served_by}"
    chaos = case.policy.chaos is not None  # ends attempts before they reach the callable
    if outcome.attempts != len(call.attempts) and not (chaos and outcome.attempts > len(call.attempts)):
        yield f"its outcome counts {outcome.attempts} attempts, there were {len(call.attempts)}"
    if not call.is_stream and abs(outcome.elapsed - (call.ended_at - call.begins)) > case.play.blocked + GRAIN:
        yield f"its outcome took {outcome.elapsed:g} s, it itself {call.ended_at - call.begins:g} s"


def _error(case: Case) -> Iterator[str]:
    call, policy = case.call, case.policy
    error = call.error
    if error is None or call.state == "paused":
        return
    # Equal calls that wait for one share its error.
    everybody = (*case.play.calls, *case.play.nested_calls)
    callers = [call] if policy.cache is None else [other for other in everybody if other.plan.key == call.plan.key]
    if any(error is attempt.raised for caller in callers for attempt in (*caller.attempts, *caller.elsewhere)):
        return
    # Who leads a flight may be under another policy than those that follow.
    policies = [policy] if policy.cache is None or call.is_nested else case.play.targets.policies
    if not any(_explains(one, error, is_nested=call.is_nested) for one in policies):
        yield f"raised {error!r}, which nothing explains"
    counted = getattr(error, "attempts", None)
    # What calls a nested call, again and again, writes its own number over that one's.
    is_own = policy.cache is None and policy.chaos is None and not call.is_nested and not _is_served(case)
    if counted != len(call.attempts) and is_own:
        yield f"its error counts {counted} attempts, there were {len(call.attempts)}"


def _explains(policy: TargetPolicy, error: BaseException, *, is_nested: bool) -> bool:
    """Whether *error* may come from a layer of *policy*."""
    limits = policy.rate_limit or policy.bulkhead or policy.timeout
    timed = policy.deadline is not None or policy.timeout is not None or is_nested
    return (
        (isinstance(error, CircuitBreakerOpen) and policy.circuit_breaker is not None)
        or (isinstance(error, LimitExceeded) and limits is not None)
        or (isinstance(error, builtins.TimeoutError) and timed)
        or (isinstance(error, RetryExhausted) and policy.retry is not None and policy.retry.budget is not None)
        or (isinstance(error, ConnectionError) and policy.chaos is not None)
    )


def _is_served(case: Case) -> bool:
    """Whether what ended the call is the stream of a fallback."""
    return case.call.is_stream and case.call.outcome is not None and case.call.outcome.degraded


CHECKS: tuple[Callable[[Case], Iterator[str]], ...] = (
    _ends_once,
    _attempts,
    _in_time,
    _cancellation_arrives,
    _no_attempt_outlives_it,
    _what_is_not_retried,
    _value,
    _served_by,
    _outcome,
    _error,
)
