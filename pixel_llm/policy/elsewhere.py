"""What a policy means for a call that its fallback makes elsewhere: at another model, at another endpoint."""

from __future__ import annotations

from dataclasses import replace

from pixel_llm.policy.sections.circuit_breaker import PER_TARGET, BreakerMode
from pixel_llm.policy.sections.target import TargetPolicy

#: The layers that such a call does not have: they are those of the whole call.
_OF_THE_WHOLE = ("deadline", "fallback", "cache", "retry", "hedge")


def elsewhere(policy: TargetPolicy) -> TargetPolicy:
    """
    The layers of a call that a fallback of *policy* makes elsewhere.

    It makes one attempt, and knows its own breaker: what is wrong with one server says nothing of the other.
    """
    policy = replace(policy, **dict.fromkeys(_OF_THE_WHOLE))
    breaker = policy.circuit_breaker
    if breaker is None:
        return policy
    # There is one model, or one server; and whoever forces the breaker open asks for what stands in for its target.
    mode = BreakerMode.ENABLED if breaker.mode is BreakerMode.FORCED_OPEN else breaker.mode
    return replace(policy, circuit_breaker=replace(breaker, per=PER_TARGET, mode=mode))
