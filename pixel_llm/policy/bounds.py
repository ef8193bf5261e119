"""
What a policy can cost at worst, computed from the policy alone.

Every bound is tight: the stack never exceeds it, and some schedule of failures reaches it.
:doc:`docs/explanation/bounds` derives the formulas.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

from pixel_llm.policy.sections.document import PolicyConfig
from pixel_llm.policy.sections.fallback import FallbackStrategy
from pixel_llm.policy.sections.retry import Jitter, RetryConfig
from pixel_llm.policy.sections.target import TargetPolicy

#: The target that calls others, and those it calls one after the other.
GENERATE = "pixel_llm.generate"
INSIDE_GENERATE = ("encoder.load", "encoder.forward", "lm_studio.chat")

#: Calls per second at which the time to an open breaker is computed, unless told otherwise.
DEFAULT_RATE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """
    The bounds of one target. Immutable.

    Attributes:
        target: Its name.
        worst_latency: Seconds until a call has ended, or None if nothing bounds it. A plain sync function
            without a timeout can't be interrupted, so it holds for what can be.
        worst_attempts: The most often that one call calls the callable.
        typical_attempts: How often it does while all is well.
        worst_upstream_calls: The most requests to LM Studio that one call of ``pixel_llm.generate`` or of
            an ``lm_studio`` target makes; for others the same as *worst_attempts*.
        opens_after: Seconds from the start of an outage in which every attempt fails at once until the
            breaker opens, at *rate* calls a second; None without a breaker.
        opens_after_silence: The same for an outage in which every attempt gets no answer; None where nothing
            ends such an attempt.
        rate: Calls per second.
        cache_bytes: The most memory that cached results take, 0 without a cache.
    """

    target: str
    worst_latency: float | None
    worst_attempts: int
    typical_attempts: int
    worst_upstream_calls: int
    opens_after: float | None
    opens_after_silence: float | None
    rate: float
    cache_bytes: int


def compute_bounds(config: PolicyConfig, target: str, *, rate: float = DEFAULT_RATE) -> Bounds:
    """The bounds of *target*, which must be in *config* or have no layers, at *rate* calls a second."""
    policy = config.targets.get(target, TargetPolicy())
    attempt = _inside_generate(config) if target == GENERATE else None
    if policy.timeout is not None and policy.timeout.attempt is not None:
        attempt = policy.timeout.attempt if attempt is None else min(attempt, policy.timeout.attempt)
    attempts = worst_attempts(policy)
    inner = worst_attempts(config.targets.get("lm_studio.chat", TargetPolicy())) if target == GENERATE else 1
    return Bounds(
        target=target,
        worst_latency=worst_latency(policy, attempt),
        worst_attempts=attempts,
        typical_attempts=1,
        worst_upstream_calls=attempts * inner,
        opens_after=_opens_after(policy, 0.0, rate),
        opens_after_silence=_opens_after(policy, attempt, rate),
        rate=rate,
        cache_bytes=sum(step.cache.max_bytes for step in policy.fallback or () if step.cache is not None),
    )


def all_bounds(config: PolicyConfig, *, rate: float = DEFAULT_RATE) -> dict[str, Bounds]:
    """The bounds of every target of *config*."""
    return {target: compute_bounds(config, target, rate=rate) for target in config.targets}


def shortest_wait(retry: RetryConfig, number: int) -> float:
    """The shortest wait in seconds after attempt *number*, counted from 0."""
    return 0.0 if retry.jitter is Jitter.FULL else retry.ceiling(number)


def longest_wait(retry: RetryConfig, number: int) -> float:
    """The longest wait in seconds after attempt *number*, counted from 0, a Retry-After included."""
    ceiling = retry.ceiling(number)
    asked = retry.retry_after_max
    return asked + ceiling if retry.jitter is Jitter.FULL else max(asked, ceiling)


def worst_attempts(policy: TargetPolicy) -> int:
    """How often one call can call the callable: those attempts that can begin before the deadline."""
    retry = policy.retry
    if retry is None:
        return 1
    deadline = math.inf if policy.deadline is None else policy.deadline
    begins = 0.0
    for number in range(retry.max_attempts - 1):
        begins += shortest_wait(retry, number)
        if begins >= deadline:
            return number + 1
    return retry.max_attempts


def worst_latency(policy: TargetPolicy, attempt: float | None) -> float | None:
    """
    The longest time in seconds that a call can take, each attempt taking at most *attempt*.

    The last attempt that can begin before the deadline may begin at any moment up to the sum of
    the longest attempts and waits before it, and ends with its timeout or at the deadline.
    """
    if attempt is None:
        return policy.deadline
    deadline = math.inf if policy.deadline is None else policy.deadline
    ends = attempt
    for number in range(worst_attempts(policy) - 1):
        assert policy.retry is not None  # noqa: S101 - else there is one attempt
        ends += longest_wait(policy.retry, number) + attempt
    return min(deadline, ends)


def _inside_generate(config: PolicyConfig) -> float | None:
    """The longest time of one attempt of generate(): what it calls, one after the other."""
    parts = [compute_bounds(config, name).worst_latency for name in INSIDE_GENERATE]
    return None if None in parts else sum(part for part in parts if part is not None)


def _opens_after(policy: TargetPolicy, attempt: float | None, rate: float) -> float | None:
    """
    Seconds from the start of an outage until the breaker opens.

    At worst the outage begins right after a call did, so calls begin at 1/rate, 2/rate, …, each attempt
    takes *attempt* (None: it is ended by nothing but the deadline) and each wait is the longest. The
    breaker opens with the failure that is the threshold's: of all failures the threshold-smallest time.
    """
    breaker = policy.circuit_breaker
    if breaker is None or (attempt is None and policy.deadline is None):
        return None
    offsets = _failure_times(policy, attempt)
    if not offsets:
        return None
    threshold = breaker.failure_threshold
    times = (call / rate + offset for call in range(1, threshold + 1) for offset in offsets)
    return heapq.nsmallest(threshold, times)[-1]


def _failure_times(policy: TargetPolicy, attempt: float | None) -> list[float]:
    """When, from the start of a call whose every attempt fails, failures are counted."""
    deadline = math.inf if policy.deadline is None else policy.deadline
    attempts = 1 if policy.retry is None else policy.retry.max_attempts
    begins = 0.0
    times: list[float] = []
    for number in range(attempts):
        ends = math.inf if attempt is None else begins + attempt
        if ends > deadline:
            # Cut by the deadline before its timeout: that counts only as the first attempt of its target.
            return [*times, deadline] if number == 0 else times
        times.append(ends)
        if policy.retry is None or number == attempts - 1:
            break
        begins = ends + policy.retry.ceiling(number)
        if begins >= deadline:
            break
    return times


def has_step(policy: TargetPolicy, *strategies: FallbackStrategy) -> bool:
    """True if the fallback of *policy* has a step of one of *strategies*."""
    return any(step.strategy in strategies for step in policy.fallback or ())
