"""What a fallback adds to the bounds of its target, and takes from the time of the attempts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from pixel_llm.policy.sections.fallback import CacheConfig, FallbackStep, FallbackStrategy, reserved
from pixel_llm.policy.sections.target import TargetPolicy


def before_fallback(policy: TargetPolicy) -> TargetPolicy:
    """*policy* without the part of its deadline that is kept for the fallback."""
    kept = reserved(policy.fallback or ())
    if policy.deadline is None or not kept:
        return policy
    return dataclasses.replace(policy, deadline=max(0.0, policy.deadline - kept))


def with_fallback(
    policy: TargetPolicy, latency: float | None, latency_of: Callable[[str], float | None], alternative: float | None
) -> float | None:
    """
    The longest time in seconds of a call whose attempts take *latency* at most, its fallback included.

    *latency_of* gives that of another target, *alternative* is that of a call elsewhere. None means that nothing
    bounds it.
    """
    steps = [step for step in policy.fallback or () if step.takes_time]
    if not steps:
        return latency
    whole: float | None = latency
    for step in steps:
        longest = _longest(step, latency_of, alternative)
        whole = None if whole is None or longest is None else whole + longest
    if whole is None or policy.deadline is None:
        return policy.deadline if whole is None else whole
    return min(whole, policy.deadline)


def _longest(step: FallbackStep, latency_of: Callable[[str], float | None], alternative: float | None) -> float | None:
    """The longest time of one step, by itself."""
    if step.strategy is FallbackStrategy.TARGET:
        return latency_of(step.value)
    return None if step.strategy is FallbackStrategy.CUSTOM_FUNCTION else alternative


def calls_of_fallback(policy: TargetPolicy, calls_of: Callable[[str], int]) -> int:
    """The most calls that the steps of a fallback make; *calls_of* gives those of another target."""
    calls = 0
    for step in policy.fallback or ():
        if step.strategy is FallbackStrategy.TARGET:
            calls += calls_of(step.value)
        elif step.strategy in (FallbackStrategy.MODEL, FallbackStrategy.ENDPOINT):
            calls += 1
    return calls


def caches(policy: TargetPolicy) -> Iterator[CacheConfig]:
    """Every cache of a target."""
    if policy.cache is not None:
        yield policy.cache
    yield from (step.cache for step in policy.fallback or () if step.cache is not None)
