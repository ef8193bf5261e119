"""What must hold after every schedule."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Iterator

from pixel_llm.errors import CircuitBreakerOpen, ErrorCode, LimitExceeded, RetryExhausted, classify_error, http_status
from pixel_llm.events import CallFailed, CircuitStateChanged, RetryScheduled
from pixel_llm.policy import FallbackStrategy, PolicyConfig, TargetPolicy
from pixel_llm.policy.bounds import Bounds, compute_bounds
from pixel_llm.policy.sections.matching import NOTHING_SENT
from pixel_llm.policy.sections.retry_budget import RetryBudgetConfig
from pixel_llm.resilience.outcome import SERVED_BY_CACHE_HIT, SERVED_BY_CALL, SERVED_BY_SHARED_CALL
from soak.playing import TARGET, Play
from soak.records import Call, Value

#: Less than any duration that is drawn; more than what adding floats loses.
GRAIN = 1e-6


def violations(play: Play) -> list[str]:
    """Everything that should not have happened, in words."""
    bounds = compute_bounds(PolicyConfig(version=1, targets={TARGET: play.schedule.policy}), TARGET)
    found = play.look_around()
    for call in play.calls:
        for check in _CALL_CHECKS:
            found += [f"{call.name}: {text}" for text in check(play, call, bounds)]
    for check_all in _CHECKS:
        found += check_all(play)
    return found


def interruptible(call: Call, policy: TargetPolicy) -> bool:
    """Whether something can end the call's attempts in time."""
    return (
        call.caller.world == "async"
        or call.caller.cooperative
        or (policy.timeout is not None and policy.timeout.attempt is not None)
    )


# One call


def _ends_once(play: Play, call: Call, bounds: Bounds) -> Iterator[str]:
    if call.ends != 1:
        yield f"ended {call.ends} times"


def _attempts(play: Play, call: Call, bounds: Bounds) -> Iterator[str]:
    if len(call.attempts) > bounds.worst_attempts:
        yield f"{len(call.attempts)} attempts, though {bounds.worst_attempts} is the most"


def _in_time(play: Play, call: Call, bounds: Bounds) -> Iterator[str]:
    policy = play.schedule.policy
    slack = play.blocked + GRAIN
    elapsed = call.ended_at - call.begins
    if policy.deadline is not None:
        late = [attempt.begins for attempt in call.attempts if attempt.begins >= call.begins + policy.deadline + slack]
        if late:
            yield f"an attempt began {late[0] - call.begins:g} s after it, the deadline being {policy.deadline:g} s"
    limit = min(_or_inf(policy.deadline), _or_inf(bounds.worst_latency))
    if interruptible(call, policy) and elapsed > limit + slack:
        yield f"took {elapsed:g} s, though {limit:g} s is the longest"
    if call.cancelled is not None and call.ended_at > call.cancelled + slack:
        yield f"ended {call.ended_at - call.cancelled:g} s after it was cancelled"


def _cancellation_arrives(play: Play, call: Call, bounds: Bounds) -> Iterator[str]:
    if call.cancelled is not None and call.state not in ("cancelled", "interrupted"):
        yield f"was cancelled, and ended with {call.state} {call.error or call.value!r}"
    if call.cancelled is None and call.state == "cancelled":
        yield "ended as if cancelled, which it was not"


def _no_attempt_outlives_it(play: Play, call: Call, bounds: Bounds) -> Iterator[str]:
    hedged = play.schedule.policy.hedge is not None
    if call.caller.world == "sync" and (hedged or not call.caller.cooperative):
        return  # threads can't be stopped
    for number, attempt in enumerate(call.attempts):
        if attempt.ends is None or attempt.ends > call.ended_at:
            yield f"attempt {number} ran on after it"


def _what_is_not_retried(play: Play, call: Call, bounds: Bounds) -> Iterator[str]:
    policy = play.schedule.policy
    timeout = policy.timeout.attempt if policy.timeout is not None else None
    chaos = policy.chaos.delay if policy.chaos is not None else None
    delayed = chaos.duration if chaos is not None else 0.0  # before the callable is called, and within the timeout
    for number, attempt in enumerate(call.attempts[:-1]):
        if policy.retry is None or policy.hedge is not None or attempt.raised is None or attempt.ends is None:
            continue
        if timeout is not None and attempt.ends - attempt.begins >= timeout - play.blocked - delayed:
            continue  # perhaps it had been given up before
        classification = classify_error(attempt.raised)
        retried = policy.retry.retry_on.retries(classification, http_status(attempt.raised))
        sent = policy.idempotent is False and classification.error_code not in NOTHING_SENT
        if not retried or sent:
            yield f"attempt {number} failed of {attempt.raised!r}, and was tried again"


def _value(play: Play, call: Call, bounds: Bounds) -> Iterator[str]:
    if call.state != "value":
        return
    value, policy = call.value, play.schedule.policy
    if not isinstance(value, Value):
        if not any(value == given for given in _given(policy)):
            yield f"got {value!r}, which nobody gives"
        if call.outcome is not None and call.outcome.served_by in _FROM_OTHERS and value != "chaos":
            yield f"got {value!r} from a cache that must not keep it"
        return
    if value.key != call.plan.key:
        yield f"got the value of key {value.key}, its own being {call.plan.key}"
    if value.made < call.begins:
        caches = [step.cache for step in policy.fallback or () if step.cache is not None]
        if policy.cache is not None:
            caches.append(policy.cache)
        limit = max((cache.ttl for cache in caches), default=0.0)
        if call.outcome is not None and call.outcome.served_by == SERVED_BY_CACHE_HIT and policy.cache is not None:
            limit = policy.cache.ttl
        if call.ended_at - value.made >= limit + play.blocked:
            yield f"got a value that was {call.ended_at - value.made:g} s old, the limit being {limit:g} s"


#: Results that another call has brought.
_FROM_OTHERS = (SERVED_BY_CACHE_HIT, SERVED_BY_SHARED_CALL)


def _given(policy: TargetPolicy) -> list[object]:
    """What may be served in place of a value of the callable's."""
    words = {FallbackStrategy.DEFAULT_VALUE: "default", FallbackStrategy.CUSTOM_FUNCTION: "backup"}
    known = (*words, FallbackStrategy.NONE)
    given: list[object] = [words.get(step.strategy) for step in policy.fallback or () if step.strategy in known]
    return given if policy.chaos is None else [*given, "chaos"]


def _outcome(play: Play, call: Call, bounds: Bounds) -> Iterator[str]:
    outcome = call.outcome
    if outcome is None:
        return
    if outcome.degraded == (outcome.served_by in (SERVED_BY_CALL, *_FROM_OTHERS)):
        yield f"its outcome says degraded={outcome.degraded} of {outcome.value!r} by {outcome.served_by}"
    chaos = play.schedule.policy.chaos is not None  # ends attempts before they reach the callable
    if outcome.attempts != len(call.attempts) and not (chaos and outcome.attempts > len(call.attempts)):
        yield f"its outcome counts {outcome.attempts} attempts, there were {len(call.attempts)}"
    if abs(outcome.elapsed - (call.ended_at - call.begins)) > play.blocked + GRAIN:
        yield f"its outcome took {outcome.elapsed:g} s, it itself {call.ended_at - call.begins:g} s"


def _error(play: Play, call: Call, bounds: Bounds) -> Iterator[str]:
    error, policy = call.error, play.schedule.policy
    if error is None:
        return
    # Equal calls that wait for one share its error.
    callers = [call] if policy.cache is None else [other for other in play.calls if other.plan.key == call.plan.key]
    if any(error is attempt.raised for caller in callers for attempt in caller.attempts):
        return
    limits = policy.rate_limit or policy.bulkhead or policy.timeout
    explained = (
        (isinstance(error, CircuitBreakerOpen) and policy.circuit_breaker is not None)
        or (isinstance(error, LimitExceeded) and limits is not None)
        or (isinstance(error, builtins.TimeoutError) and (policy.deadline is not None or policy.timeout is not None))
        or (isinstance(error, RetryExhausted) and policy.retry is not None and policy.retry.budget is not None)
        or (isinstance(error, ConnectionError) and policy.chaos is not None)
    )
    if not explained:
        yield f"raised {error!r}, which nothing explains"
    counted = getattr(error, "attempts", None)
    if counted != len(call.attempts) and policy.cache is None and policy.chaos is None:
        yield f"its error counts {counted} attempts, there were {len(call.attempts)}"


_CALL_CHECKS: tuple[Callable[[Play, Call, Bounds], Iterator[str]], ...] = (
    _ends_once,
    _attempts,
    _in_time,
    _cancellation_arrives,
    _no_attempt_outlives_it,
    _what_is_not_retried,
    _value,
    _outcome,
    _error,
)


# All of them


def _failures_are_reported(play: Play) -> Iterator[str]:
    """Each call that failed for good is reported once, whether or not a fallback served."""
    reported = sum(isinstance(event, CallFailed) for _, event in play.events)
    least = most = 0
    for call in play.calls:
        failed = call.state == "error" or (
            call.state == "value" and (call.outcome.degraded if call.outcome is not None else _served(call))
        )
        perhaps = call.state == "value" and call.outcome is None and not failed
        least, most = least + failed, most + (failed or perhaps)
    cancelled = sum(call.state in ("cancelled", "interrupted") for call in play.calls)
    if not least <= reported <= most + cancelled:
        yield f"{reported} calls were reported as failed, there were {least} to {most}"


def _served(call: Call) -> bool:
    """Whether a fallback has certainly served. Old values may be hits of the read-through cache."""
    return not isinstance(call.value, Value) and call.value != "chaos"


def _cooldown(play: Play) -> Iterator[str]:
    """An open breaker stays open for its cooldown."""
    section, opened = play.schedule.policy.circuit_breaker, -math.inf
    for moment, event in play.events:
        if section is None or not isinstance(event, CircuitStateChanged):
            continue
        if event.new_state == "open":
            opened = moment
        elif event.old_state == "open" and moment < opened + section.cooldown - play.blocked - GRAIN:
            yield f"the breaker was open for {moment - opened:g} s, its cooldown being {section.cooldown:g} s"


def _bulkhead(play: Play) -> Iterator[str]:
    bulkhead = play.schedule.policy.bulkhead
    if bulkhead is not None and play.most_running > bulkhead.max_concurrent:
        yield f"{play.most_running} attempts ran at once, though {bulkhead.max_concurrent} is the most"


def _single_flight(play: Play) -> Iterator[str]:
    """Equal calls at once make one; an abandoned thread may run beside the next."""
    policy = play.schedule.policy
    hedged = policy.hedge is not None
    plain = any(caller.world == "sync" and (hedged or not caller.cooperative) for caller in play.schedule.callers)
    most = 1 if policy.hedge is None else 1 + policy.hedge.max_hedges
    if policy.cache is not None and not plain and play.most_of_key > most:
        yield f"{play.most_of_key} attempts of equal calls ran at once"


def _rate(play: Play) -> Iterator[str]:
    rate = play.schedule.policy.rate_limit
    if rate is None or rate.max_calls is None or play.schedule.policy.chaos is not None:
        return  # chaos delays attempts between their admission and the callable
    starts = sorted(play.starts)
    for first, last in zip(starts, starts[rate.max_calls :], strict=False):
        if last - first < rate.period - play.blocked - GRAIN:
            yield f"{rate.max_calls + 1} attempts began within {last - first:g} s, the period being {rate.period:g} s"


def _budget(play: Play) -> Iterator[str]:
    """
    However calls are spread, there are never more retries in a window than all calls so far allow.

    A retry is reported after it has been granted; where threads change between the two, others may block meanwhile.
    """
    retry = play.schedule.policy.retry
    if retry is None or not isinstance(retry.budget, RetryBudgetConfig):
        return
    budget, calls = retry.budget, sum(bool(call.ends) for call in play.calls)
    most = max(budget.min_retries, budget.ratio * calls)
    moments = [
        moment
        for moment, event in play.events
        if isinstance(event, RetryScheduled)
        and event.error_code not in _REFUSALS  # to wait for the breaker is no retry
    ]
    for index, moment in enumerate(moments):
        within = sum(moment - earlier < budget.window - play.blocked - GRAIN for earlier in moments[: index + 1])
        if within > most:
            yield f"{within} retries within {budget.window:g} s, though {most:g} is the most"
            return


_REFUSALS = (ErrorCode.ERR_CB_OPEN, ErrorCode.ERR_CB_HALF_OPEN)


def _stats(play: Play) -> Iterator[str]:
    """The counters are exact."""
    stats = play.stack.stats()
    reported = sum(isinstance(event, CallFailed) for _, event in play.events)
    if stats.failed != reported:
        yield f"the stack counts {stats.failed} failed calls, {reported} were reported"
    ended = sum(call.state in ("value", "error") for call in play.calls)
    cut = sum(call.state == "cancelled" for call in play.calls)  # perhaps while a fallback was at work: it had failed
    if not ended <= stats.succeeded + stats.failed <= ended + cut:
        yield f"the stack counts {stats.succeeded} and {stats.failed} calls, there were {ended}"


def _or_inf(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds


_CHECKS: tuple[Callable[[Play], Iterator[str]], ...] = (
    _failures_are_reported,
    _cooldown,
    _bulkhead,
    _single_flight,
    _rate,
    _budget,
    _stats,
)
