"""How often a target tries by its `retry` and its deadline alone, whatever its other layers do."""

from __future__ import annotations

import math

from pixel_llm.policy.bounds import shortest_wait
from pixel_llm.policy.sections.retry import RetryConfig
from pixel_llm.policy.sections.target import TargetPolicy


def possible_attempts(target: TargetPolicy) -> int:
    """The attempts of one call that can begin before the deadline, if each fails at once and every wait is short."""
    retry, begins = target.retry, 0.0
    if retry is None:
        return 1
    deadline = math.inf if target.deadline is None else target.deadline
    for number in range(retry.max_attempts - 1):
        begins += shortest_wait(retry, number)
        if begins >= deadline:
            return number + 1
    return retry.max_attempts


def longest_waits(retry: RetryConfig) -> float:
    """All waits of a call at their longest, in seconds, without any Retry-After."""
    return sum(retry.ceiling(number) for number in range(retry.max_attempts - 1))
