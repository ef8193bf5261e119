"""What must hold after every schedule."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Iterator
from typing import Any

from pixel_llm.errors import CircuitBreakerOpen, LimitExceeded, classify_error, http_status
from pixel_llm.events import CallFailed, CircuitStateChanged
from pixel_llm.policy import FallbackStrategy, PolicyConfig, TargetPolicy
from pixel_llm.policy.bounds import Bounds, compute_bounds
from pixel_llm.policy.sections.matching import NOTHING_SENT
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
    if call.caller.world == "sync" and not call.caller.cooperative:
        return
    for number, attempt in enumerate(call.attempts):
        if attempt.ends is None or attempt.ends > call.ended_at:
            yield f"attempt {number} ran on after it"


def _what_is_not_retried(play: Play, call: Call, bounds: Bounds) -> Iterator[str]:
    policy = play.schedule.policy
    timeout = policy.timeout.attempt if policy.timeout is not None else None
    for number, attempt in enumerate(call.attempts[:-1]):
        if policy.retry is None or attempt.raised is None or attempt.ends is None:
            continue
        if timeout is not None and attempt.ends - attempt.begins >= timeout - play.blocked:
            continue  # perhaps it had been given up before
        classification = classify_error(attempt.raised)
        retried = policy.retry.retry_on.retries(classification, http_status(attempt.raised))
        sent = policy.idempotent is False and classification.error_code not in NOTHING_SENT
        if not retried or sent:
            yield f"attempt {number} failed of {attempt.raised!r}, and was tried again"


def _value(play: Play, call: Call, bounds: Bounds) -> Iterator[str]:
    if call.state != "value":
        return
    value, steps = call.value, play.schedule.policy.fallback or ()
    strategies = [step.strategy for step in steps]
    if isinstance(value, Value):
        if value.key != call.plan.key:
            yield f"got the value of key {value.key}, its own being {call.plan.key}"
        if value.made < call.begins:
            cached = next((step.cache for step in steps if step.cache is not None), None)
            if cached is None:
                yield "got an old value, though nothing keeps any"
            elif call.ended_at - value.made >= cached.ttl + play.blocked:
                yield f"got a value that was {call.ended_at - value.made:g} s old, the limit being {cached.ttl:g} s"
    elif not (
        (value == "default" and FallbackStrategy.DEFAULT_VALUE in strategies)
        or (value is None and FallbackStrategy.NONE in strategies)
    ):
        yield f"got {value!r}, which nobody gives"


def _outcome(play: Play, call: Call, bounds: Bounds) -> Iterator[str]:
    outcome = call.outcome
    if outcome is None:
        return
    own = isinstance(outcome.value, Value) and outcome.served_by == "call"
    if outcome.degraded == own:
        yield f"its outcome says degraded={outcome.degraded} of {outcome.value!r} by {outcome.served_by}"
    if outcome.attempts != len(call.attempts):
        yield f"its outcome counts {outcome.attempts} attempts, there were {len(call.attempts)}"
    if abs(outcome.elapsed - (call.ended_at - call.begins)) > play.blocked + GRAIN:
        yield f"its outcome took {outcome.elapsed:g} s, it itself {call.ended_at - call.begins:g} s"


def _error(play: Play, call: Call, bounds: Bounds) -> Iterator[str]:
    error, policy = call.error, play.schedule.policy
    if error is None:
        return
    if any(error is attempt.raised for attempt in call.attempts):
        return
    explained = (
        (isinstance(error, CircuitBreakerOpen) and policy.circuit_breaker is not None)
        or isinstance(error, LimitExceeded)
        or (isinstance(error, builtins.TimeoutError) and (policy.deadline is not None or policy.timeout is not None))
    )
    if not explained:
        yield f"raised {error!r}, which nothing explains"
    counted = getattr(error, "attempts", None)
    if counted != len(call.attempts):
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
    return not isinstance(call.value, Value) or call.value.made < call.begins


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
    bulkhead: Any = getattr(play.schedule.policy, "bulkhead", None)
    if bulkhead is not None and play.most_running > bulkhead.max_concurrent:
        yield f"{play.most_running} attempts ran at once, though {bulkhead.max_concurrent} is the most"


def _rate(play: Play) -> Iterator[str]:
    rate: Any = getattr(play.schedule.policy, "rate_limit", None)
    if rate is None or rate.max_calls is None:
        return
    starts = sorted(play.starts)
    for first, last in zip(starts, starts[rate.max_calls :], strict=False):
        if last - first < rate.period - play.blocked - GRAIN:
            yield f"{rate.max_calls + 1} attempts began within {last - first:g} s, the period being {rate.period:g} s"


def _stats(play: Play) -> Iterator[str]:
    """The counters are exact."""
    if not hasattr(play.stack, "stats"):
        return
    stats = play.stack.stats()
    reported = sum(isinstance(event, CallFailed) for _, event in play.events)
    if stats.failed != reported:
        yield f"the stack counts {stats.failed} failed calls, {reported} were reported"
    ended = sum(call.state in ("value", "error") for call in play.calls)
    if stats.succeeded + stats.failed != ended:
        yield f"the stack counts {stats.succeeded} and {stats.failed} calls, there were {ended}"


def _or_inf(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds


_CHECKS: tuple[Callable[[Play], Iterator[str]], ...] = (_failures_are_reported, _cooldown, _bulkhead, _rate, _stats)
