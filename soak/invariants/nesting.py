"""What must hold for calls within calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from pixel_llm.policy.sections.fallback import reserved
from soak.invariants.case import Case
from soak.records import Attempt


def _within_its_caller(case: Case) -> Iterator[str]:
    """A nested call never outlives its caller's deadline, nor the timeout of the attempt that makes it."""
    call = case.call
    if call.outer is None:
        return
    ends = _ends_of(case, call.outer)
    if case.is_interruptible and call.ended_at > max(call.begins, ends) + case.slack:
        yield f"ended {call.ended_at - ends:g} s after the attempt that made it had to"
    late = [attempt for attempt in call.attempts if attempt.begins >= ends + case.slack]
    if late:
        yield f"an attempt of it began {late[0].begins - ends:g} s after its caller's had to end"


def _ends_of(case: Case, attempt: Attempt) -> float:
    """The moment at which *attempt*, which is no nested call's, must be over under any policy it may be under."""
    outer, latest = attempt.call, -math.inf
    for policy in case.play.targets.policies[outer.first_policy : (outer.last_policy or 0) + 1]:
        ends = math.inf
        if policy.deadline is not None:
            ends = outer.begins + policy.deadline - reserved(policy.fallback or ())
        timeout = policy.timeout
        longest = None if timeout is None else timeout.to_first_content if outer.is_stream else timeout.attempt
        if longest is not None:
            # Chaos delays an attempt before its callable is called, so it ends sooner than this.
            ends = min(ends, attempt.begins + longest)
        latest = max(latest, ends)
    return latest


CHECKS: tuple[Callable[[Case], Iterator[str]], ...] = (_within_its_caller,)
