"""What a policy means for a call that one of several servers may answer: which of its layers are whose."""

from __future__ import annotations

from dataclasses import replace

from pixel_llm.policy.sections.circuit_breaker import PER_TARGET
from pixel_llm.policy.sections.document import PolicyConfig
from pixel_llm.policy.sections.target import TargetPolicy

#: The layers of the whole call, and those of each server: what is wrong with one says nothing of another.
_OF_THE_WHOLE = ("deadline", "fallback", "cache", "retry", "hedge")
_OF_EACH = ("rate_limit", "bulkhead", "timeout", "chaos")

#: The targets whose calls go to a server.
_SERVED = ("lm_studio.chat", "lm_studio.models")

#: What `circuit_breaker.per` says where each server has a breaker of its own.
PER_ENDPOINT = "endpoint"


def is_over_routes(config: PolicyConfig, target: str) -> bool:
    """True if it must be found out for each call of *target* which server is asked, or whether it is ready."""
    return target in _SERVED and config.lm_studio.has_routes


def over_routes(policy: TargetPolicy) -> TargetPolicy:
    """
    The layers of *policy* that are around all servers.

    The breaker's section stays: it says how the whole call behaves when every server's breaker refuses.
    """
    return replace(policy, **dict.fromkeys(_OF_EACH))


def at_route(policy: TargetPolicy) -> TargetPolicy:
    """The layers of *policy* that each server has for itself."""
    policy = replace(policy, **dict.fromkeys(_OF_THE_WHOLE))
    breaker = policy.circuit_breaker
    if breaker is None or breaker.per != PER_ENDPOINT:
        return policy
    return replace(policy, circuit_breaker=replace(breaker, per=PER_TARGET))
