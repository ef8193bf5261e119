"""What counters and events say must agree with what happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pixel_llm.errors import ErrorCode
from pixel_llm.events import CallFailed, Event, RetryScheduled, StreamAbandoned, StreamBroken
from pixel_llm.policy.sections.retry_budget import RetryBudgetConfig
from soak.invariants.case import GRAIN
from soak.playing import Play
from soak.records import Call, Value
from soak.targets import TARGET

_REFUSALS = (ErrorCode.ERR_CB_OPEN, ErrorCode.ERR_CB_HALF_OPEN)


def _number_of(play: Play, kind: type[Event]) -> int:
    return sum(isinstance(event, kind) and event.target == TARGET for _, event in play.events)


def _has_failed(call: Call) -> bool:
    """Whether it certainly has, though a fallback may have served."""
    if call.outcome is not None and call.state != "never":
        return call.state == "error" or bool(call.outcome.degraded)
    return call.state == "error" or (call.state == "value" and _is_served(call))


def _is_served(call: Call) -> bool:
    """Whether a fallback has certainly served. Old values may be hits of the read-through cache."""
    return not isinstance(call.value, Value) and call.value != "chaos"


def _perhaps_failed(call: Call) -> bool:
    """Whether nobody but the stack knows if it has: of a value, or where a fallback was at work when it was cut."""
    if _has_failed(call):
        return False
    return call.state in ("cancelled", "interrupted") or (call.state == "value" and call.outcome is None)


def _failures_are_reported(play: Play) -> Iterator[str]:
    """Each call that failed for good is reported once, whether or not a fallback served."""
    reported = _number_of(play, CallFailed)
    least = sum(map(_has_failed, play.calls))
    most = least + sum(map(_perhaps_failed, play.calls)) + sum(call.closed is not None for call in play.calls)
    if not least <= reported <= most:
        yield f"{reported} calls were reported as failed, there were {least} to {most}"


def _stats(play: Play) -> Iterator[str]:
    """The counters are exact."""
    stats, reported = play.targets.stack.stats(), _number_of(play, CallFailed)
    if stats.failed != reported:
        yield f"the stack counts {stats.failed} failed calls, {reported} were reported"
    ended = sum(call.state in ("value", "error") or _has_failed(call) for call in play.calls)
    # Perhaps one was cut while a fallback was at work: it had failed. Or closed when it had ended.
    cut = sum(call.state in ("cancelled", "interrupted") or call.closed is not None for call in play.calls)
    if not ended <= stats.succeeded + stats.failed <= ended + cut:
        yield f"the stack counts {stats.succeeded} and {stats.failed} calls, there were {ended}"


def _streams(play: Play) -> Iterator[str]:
    """A stream that broke, or was left, after its first content is reported once."""
    streams = [call for call in play.calls if call.is_stream and call.chunks and not _has_failed_first(call)]
    broken = sum(call.state == "error" for call in streams)
    if (reported := _number_of(play, StreamBroken)) != broken:
        yield f"{reported} streams were reported as broken, there were {broken}"
    left = sum(call.state in ("left", "cancelled", "paused", "interrupted") for call in streams)
    perhaps = sum(call.state == "left" and call.closed is not None for call in streams)  # it may have ended just so
    if not left - perhaps <= (reported := _number_of(play, StreamAbandoned)) <= left:
        yield f"{reported} streams were reported as abandoned, there were {left - perhaps} to {left}"


def _has_failed_first(call: Call) -> bool:
    """Whether its chunks are those of a fallback."""
    return call.outcome is not None and bool(call.outcome.degraded)


def _budget(play: Play) -> Iterator[str]:
    """
    However calls are spread, there are never more retries in a window than all calls so far allow.

    A retry is reported after it has been granted; where threads change between the two, others may block meanwhile.
    """
    retry = play.schedule.policy.retry
    if retry is None or not isinstance(retry.budget, RetryBudgetConfig):
        return
    if any(policy.retry is None or policy.retry.budget != retry.budget for policy in play.targets.policies):
        return  # each has its own
    budget, calls = retry.budget, sum(bool(call.ends) for call in play.calls)
    most = max(budget.min_retries, budget.ratio * calls)
    moments = [
        moment
        for moment, event in play.events
        if isinstance(event, RetryScheduled)
        and event.target == TARGET
        and event.error_code not in _REFUSALS  # to wait for the breaker is no retry
    ]
    for index, moment in enumerate(moments):
        within = sum(moment - earlier < budget.window - play.blocked - GRAIN for earlier in moments[: index + 1])
        if within > most:
            yield f"{within} retries within {budget.window:g} s, though {most:g} is the most"
            return


CHECKS: tuple[Callable[[Play], Iterator[str]], ...] = (_failures_are_reported, _stats, _streams, _budget)
