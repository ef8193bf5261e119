"""Where nobody can say when the breaker opens, since not every call of an outage fails, or fails like the others."""

from __future__ import annotations

from pixel_llm.policy.bounds.attempts import worst_attempts
from pixel_llm.policy.bounds.generate import NOTHING, passed_by
from pixel_llm.policy.sections.document import PolicyConfig


def is_chaotic(config: PolicyConfig, target: str) -> bool:
    """True if chaos is injected into what a call of *target* calls, so that nobody can say how it fails."""
    return any(config.targets.get(name, NOTHING).chaos is not None for name in passed_by(target))


def is_cached(config: PolicyConfig, target: str) -> bool:
    """True if a cache may answer in place of what *target* calls, so that fewer calls fail than are made."""
    return any(config.targets.get(name, NOTHING).cache is not None for name in passed_by(target))


def is_held_back(config: PolicyConfig, target: str, latency: float | None, rate: float) -> bool:
    """
    True if, of *rate* calls a second, a rate limit or a bulkhead may refuse some, or let them wait.

    Within the last *latency* seconds at most ``rate · latency + 1`` calls have begun that are still under way,
    each with one attempt at once; and none of the attempts in a window belongs to one that began longer than
    *latency* before it.
    """
    own = config.targets.get(target, NOTHING)
    if own.circuit_breaker is None:
        return False
    attempts = worst_attempts(own)
    for name in passed_by(target):
        policy = config.targets.get(name, NOTHING)
        limit, bulkhead = policy.rate_limit, policy.bulkhead
        if limit is None and bulkhead is None:
            continue
        if latency is None or name != target or (limit is not None and limit.tokens is not None):
            return True
        starts = 0.0 if limit is None else (rate * (limit.period + latency) + 1) * attempts
        if limit is not None and limit.max_calls is not None and limit.max_calls < starts:
            return True
        if bulkhead is not None:
            slots = bulkhead.max_concurrent if bulkhead.adaptive is None else bulkhead.adaptive.min_limit
            if slots < rate * latency + 1:
                return True
    return False
