"""How often a call calls, and how long that takes, at worst."""

from __future__ import annotations

import dataclasses
import math

from pixel_llm.errors import ErrorCode
from pixel_llm.policy.bounds.durations import GRAIN, shorter
from pixel_llm.policy.bounds.retried import classified, some_error_is_retried
from pixel_llm.policy.sections.circuit_breaker import BreakerMode, CircuitBreakerConfig
from pixel_llm.policy.sections.retry import RetryConfig
from pixel_llm.policy.sections.target import TargetPolicy


def shortest_wait(retry: RetryConfig, number: int) -> float:
    """The shortest wait in seconds after attempt *number*, counted from 0."""
    return retry.floor(number)


def longest_wait(retry: RetryConfig, number: int, *, asked: float = 0.0) -> float:
    """The longest wait in seconds after attempt *number*, counted from 0, if the server asks for *asked* at most."""
    chance = retry.ceiling(number) - retry.floor(number)
    return max(asked, retry.floor(number)) + chance


def longest_retry_after(target: str, policy: TargetPolicy) -> float:
    """
    The longest Retry-After in seconds that *target* waits for.

    Only a server's answer carries one, so it is 0 if no answer is retried, and for the encoder, which has no server.
    """
    if policy.retry is None or target.startswith("encoder.") or not retries_something(policy, answer=True):
        return 0.0
    return policy.retry.retry_after_max


def worst_attempts(policy: TargetPolicy) -> int:
    """How often one call can call the callable: in each round once, and once more for each hedge."""
    return worst_rounds(policy) * (1 + worst_hedges(policy))


def worst_rounds(policy: TargetPolicy) -> int:
    """How many rounds of attempts one call can have: those that can begin before the deadline."""
    retry, breaker, pause = policy.retry, refusing_breaker(policy), 0.0
    if is_forced_open(policy):
        return 0
    if retry is None:
        return 1
    if not retries_something(policy):
        unguarded = dataclasses.replace(policy, circuit_breaker=None)
        if breaker is None or not _waits_for_breaker(policy) or not retries_something(unguarded):
            return 1
        pause = breaker.cooldown  # each failure opens the breaker, which is then waited for
    deadline = math.inf if policy.deadline is None else policy.deadline
    begins = 0.0
    for number in range(retry.max_attempts - 1):
        begins += max(pause, shortest_wait(retry, number))
        if begins >= deadline - GRAIN:
            return number + 1
    return retry.max_attempts


def worst_latency(policy: TargetPolicy, attempt: float | None, *, asked: float = 0.0) -> float | None:
    """
    The longest time in seconds that a call can take, each attempt taking at most *attempt*.

    The last round that can begin before the deadline may begin at any moment up to the sum of
    the longest rounds and waits before it, and ends with its last timeout or at the deadline. A call that
    waits for the breaker may wait again and again, so that only the deadline bounds it.
    Each attempt may first wait for its turn and its slot.
    """
    if is_forced_open(policy):
        return 0.0
    if attempt is None or _waits_for_breaker(policy):
        return policy.deadline
    queues = longest_queues(policy)
    if queues == math.inf:
        return policy.deadline
    longest = ends = queues + longest_round(policy, attempt)
    for number in range(worst_rounds(policy) - 1):
        assert policy.retry is not None  # noqa: S101 - else there is one round
        ends += longest_wait(policy.retry, number, asked=asked) + longest
    return shorter(ends, policy.deadline)


def _waits_for_breaker(policy: TargetPolicy) -> bool:
    return refusing_breaker(policy) is not None and policy.retry is not None and policy.retry.wait_for_breaker


def longest_queues(policy: TargetPolicy) -> float:
    """The longest time in seconds that one attempt can wait for its turn and its slot; inf if nothing bounds it."""
    turn = policy.rate_limit.max_wait if policy.rate_limit is not None else 0.0
    bulkhead = policy.bulkhead
    if bulkhead is None or bulkhead.max_waiting == 0:
        return turn
    return turn + (math.inf if bulkhead.max_wait is None else bulkhead.max_wait)


def worst_hedges(policy: TargetPolicy) -> int:
    """How many attempts can be sent beside the first of a round: while it lasts, and before the deadline."""
    hedge = policy.hedge
    if hedge is None:
        return 0
    delay = hedge.shortest_delay
    if policy.timeout is not None and policy.timeout.attempt is not None and delay >= policy.timeout.attempt:
        return 0
    if policy.deadline is None:
        return hedge.max_hedges
    return min(hedge.max_hedges, max(0, math.ceil(policy.deadline / delay) - 1))


def longest_round(policy: TargetPolicy, attempt: float) -> float:
    """The longest time in seconds of a round: each hedge is sent while the attempt before it is still under way."""
    if policy.hedge is None:
        return attempt
    return attempt + worst_hedges(policy) * min(policy.hedge.longest_delay, attempt)


def retries_something(policy: TargetPolicy, *, answer: bool = False) -> bool:
    """
    True if there is an error, if asked for a server's *answer*, after which the call may be tried again.

    With a threshold of 1 such an error must not count, as it would open the breaker, and that ends the retries.
    A higher threshold is no help: another caller's success may forget the failures in between. Nor are attempts
    as long as the cooldown, or several trial calls at once: then the breaker may have opened, and closed again,
    during an attempt, whose failure no longer counts.
    """
    breaker, retry = refusing_breaker(policy), policy.retry
    assert retry is not None  # noqa: S101 - asked of targets that have a retry
    count = None
    if breaker is not None and breaker.failure_threshold == breaker.half_open_max_calls == 1:
        attempt = policy.timeout.longest_attempt if policy.timeout is not None else None
        longest = shorter(None if attempt is None else longest_round(policy, attempt), policy.deadline)
        count = breaker.count if longest is not None and longest < breaker.cooldown else None
    idempotent = policy.idempotent is not False
    # A result that is rejected counts only where the policy names its code. It carries no Retry-After.
    rejected = classified(ErrorCode.ERR_RETRY_EXHAUSTED)
    if retry.retry_on_result is not None and idempotent and not answer and not (count and count.matches(rejected)):
        return True
    return some_error_is_retried(retry.retry_on, count, idempotent=idempotent, answer=answer)


def refusing_breaker(policy: TargetPolicy) -> CircuitBreakerConfig | None:
    """The breaker of *policy*, if there are calls that it refuses."""
    breaker = policy.circuit_breaker
    return breaker if breaker is not None and breaker.refuses else None


def is_forced_open(policy: TargetPolicy) -> bool:
    """True if the breaker of *policy* refuses every call."""
    breaker = policy.circuit_breaker
    return breaker is not None and breaker.mode is BreakerMode.FORCED_OPEN
