"""
What a policy can cost at worst, computed from the policy alone.

A bound is never exceeded, whatever the callable, its server and the other callers do, and some
schedule reaches it. ``docs/explanation/bounds.md`` derives the formulas and names the corners
in which a bound is true but is not reached.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cache

from pixel_llm.errors import ErrorCategory, ErrorClassification, ErrorCode, PixelLMError, classify_error
from pixel_llm.policy.fallback_bounds import before_fallback, caches, calls_of_fallback, with_fallback
from pixel_llm.policy.fallback_targets import find_target
from pixel_llm.policy.openings import opens_after
from pixel_llm.policy.sections.circuit_breaker import BreakerMode, CircuitBreakerConfig
from pixel_llm.policy.sections.document import PolicyConfig
from pixel_llm.policy.sections.lm_studio import Vision
from pixel_llm.policy.sections.matching import NOTHING_SENT, ErrorMatcher
from pixel_llm.policy.sections.retry import RetryConfig
from pixel_llm.policy.sections.target import TargetPolicy

#: The target that calls others, and those it calls one after the other.
GENERATE = "pixel_llm.generate"
INSIDE_GENERATE = ("encoder.load", "encoder.forward", "lm_studio.chat")
CHAT = "lm_studio.chat"

#: Calls per second at which the time to an open breaker is computed, unless told otherwise.
DEFAULT_RATE = 1.0

#: An attempt that would begin this close to the deadline, in seconds, doesn't: no attempt takes less time.
_GRAIN = 1e-9

_NOTHING = TargetPolicy()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """
    The bounds of one target. Immutable.

    Attributes:
        target: Its name.
        worst_latency: Seconds until a call has ended, or None if nothing bounds it. A plain sync function
            without a timeout can't be interrupted, so it holds for what can be. Of a stream it is the time
            to its first content.
        worst_attempts: The most often that one call calls the callable.
        typical_attempts: How often it does while all is well.
        worst_upstream_calls: The most requests to LM Studio that one call of ``pixel_llm.generate`` or of
            an ``lm_studio`` target makes, at all its servers; for others its attempts and those of the targets,
            models and endpoints that stand in for it. What registered functions do is not in it.
        opens_after: Seconds from the start of an outage that refuses every connection at once until the
            breaker opens, at *rate* calls a second; None if it never does, there is none, or results of chaos
            or of a cache may come in between.
        opens_after_silence: The same for an outage in which no attempt gets an answer; None also where
            nothing ends such an attempt.
        held_back: True if, at *rate*, a rate limit or a bulkhead may hold calls back, so that nobody can say when the
            breaker opens.
        rate: Calls per second, evenly spaced.
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
    held_back: bool = False


def compute_bounds(config: PolicyConfig, target: str, *, rate: float = DEFAULT_RATE) -> Bounds:
    """The bounds of *target*, which must be in *config* or have no layers, at *rate* calls a second."""
    whole = find_target(config, target) or _NOTHING
    policy = before_fallback(whole)
    attempt = policy.timeout.longest_attempt if policy.timeout is not None else None
    if target == GENERATE:
        attempt = _shorter(attempt, _inside_generate(config, policy))
    attempts = worst_attempts(policy)
    latency = worst_latency(policy, attempt, asked=longest_retry_after(target, policy))
    if whole.cache is not None:  # who waits for an equal call may have to make it after all, with what time is left
        latency = policy.deadline
    held_back = _is_held_back(config, target, latency, rate)
    unclear = held_back or _is_chaotic(config, target) or _is_cached(config, target)
    return Bounds(
        target=target,
        worst_latency=with_fallback(whole, latency, lambda name: compute_bounds(config, name).worst_latency),
        worst_attempts=attempts,
        typical_attempts=1,
        worst_upstream_calls=attempts * _calls_of_attempt(config, target) + _calls_of_fallback(config, whole),
        opens_after=None if unclear else _opens_after(policy, _refusals(config, target), rate),
        opens_after_silence=None if unclear else _opens_after(policy, _silence(config, target), rate),
        rate=rate,
        cache_bytes=sum(cache.max_bytes for cache in caches(whole)),
        held_back=held_back,
    )


def all_bounds(config: PolicyConfig, *, rate: float = DEFAULT_RATE) -> dict[str, Bounds]:
    """The bounds of every target of *config*."""
    return {target: compute_bounds(config, target, rate=rate) for target in config.targets}


# Latency and attempts


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
    if policy.retry is None or target.startswith("encoder.") or not _retries_something(policy, answer=True):
        return 0.0
    return policy.retry.retry_after_max


def worst_attempts(policy: TargetPolicy) -> int:
    """How often one call can call the callable: in each round once, and once more for each hedge."""
    return worst_rounds(policy) * (1 + _worst_hedges(policy))


def worst_rounds(policy: TargetPolicy) -> int:
    """How many rounds of attempts one call can have: those that can begin before the deadline."""
    retry, breaker, pause = policy.retry, _refusing(policy), 0.0
    if _is_forced_open(policy):
        return 0
    if retry is None:
        return 1
    if not _retries_something(policy):
        unguarded = dataclasses.replace(policy, circuit_breaker=None)
        if breaker is None or not _waits_for_breaker(policy) or not _retries_something(unguarded):
            return 1
        pause = breaker.cooldown  # each failure opens the breaker, which is then waited for
    deadline = math.inf if policy.deadline is None else policy.deadline
    begins = 0.0
    for number in range(retry.max_attempts - 1):
        begins += max(pause, shortest_wait(retry, number))
        if begins >= deadline - _GRAIN:
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
    if _is_forced_open(policy):
        return 0.0
    if attempt is None or _waits_for_breaker(policy):
        return policy.deadline
    queues = longest_queues(policy)
    if queues == math.inf:
        return policy.deadline
    longest = ends = queues + _longest_round(policy, attempt)
    for number in range(worst_rounds(policy) - 1):
        assert policy.retry is not None  # noqa: S101 - else there is one round
        ends += longest_wait(policy.retry, number, asked=asked) + longest
    return _shorter(ends, policy.deadline)


def _waits_for_breaker(policy: TargetPolicy) -> bool:
    return _refusing(policy) is not None and policy.retry is not None and policy.retry.wait_for_breaker


def longest_queues(policy: TargetPolicy) -> float:
    """The longest time in seconds that one attempt can wait for its turn and its slot; inf if nothing bounds it."""
    turn = policy.rate_limit.max_wait if policy.rate_limit is not None else 0.0
    bulkhead = policy.bulkhead
    if bulkhead is None or bulkhead.max_waiting == 0:
        return turn
    return turn + (math.inf if bulkhead.max_wait is None else bulkhead.max_wait)


def _worst_hedges(policy: TargetPolicy) -> int:
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


def _longest_round(policy: TargetPolicy, attempt: float) -> float:
    """The longest time in seconds of a round: each hedge is sent while the attempt before it is still under way."""
    if policy.hedge is None:
        return attempt
    return attempt + _worst_hedges(policy) * min(policy.hedge.longest_delay, attempt)


def _retries_something(policy: TargetPolicy, *, answer: bool = False) -> bool:
    """
    True if there is an error, if asked for a server's *answer*, after which the call may be tried again.

    With a threshold of 1 such an error must not count, as it would open the breaker, and that ends the retries.
    A higher threshold is no help: another caller's success may forget the failures in between. Nor are attempts
    as long as the cooldown, or several trial calls at once: then the breaker may have opened, and closed again,
    during an attempt, whose failure no longer counts.
    """
    breaker, retry = _refusing(policy), policy.retry
    if retry is None:
        return False
    count = None
    if breaker is not None and breaker.failure_threshold == breaker.half_open_max_calls == 1:
        attempt = policy.timeout.longest_attempt if policy.timeout is not None else None
        longest = _shorter(None if attempt is None else _longest_round(policy, attempt), policy.deadline)
        count = breaker.count if longest is not None and longest < breaker.cooldown else None
    idempotent = policy.idempotent is not False
    # A result that is rejected counts only where the policy names its code. It carries no Retry-After.
    rejected = _classified(ErrorCode.ERR_RETRY_EXHAUSTED)
    if retry.retry_on_result is not None and idempotent and not answer and not (count and count.matches(rejected)):
        return True
    return _some_error_is_retried(retry.retry_on, count, idempotent=idempotent, answer=answer)


def _refusing(policy: TargetPolicy) -> CircuitBreakerConfig | None:
    """The breaker of *policy*, if there are calls that it refuses."""
    breaker = policy.circuit_breaker
    return breaker if breaker is not None and breaker.refuses else None


def _is_forced_open(policy: TargetPolicy) -> bool:
    breaker = policy.circuit_breaker
    return breaker is not None and breaker.mode is BreakerMode.FORCED_OPEN


@cache
def _some_error_is_retried(
    retry_on: ErrorMatcher, count: ErrorMatcher | None, *, idempotent: bool, answer: bool
) -> bool:
    """True if some error is retried and, unless *count* is None, doesn't count."""
    answers = [_classified(code) for code in ErrorCode if code.info.family == "API"]
    others = [_classified(code) for code in ErrorCode if code.info.family != "API"]
    # Exceptions of others, which a program may have registered under any category.
    answers += [
        dataclasses.replace(_classified(ErrorCode.ERR_CONN_LOST), category=c, error_code=None) for c in ErrorCategory
    ]
    errors = [(error, status) for error in answers for status in (None, *range(400, 600))]
    if not answer:
        errors += [(error, None) for error in others]
    return any(
        retry_on.retries(error, status)
        and (idempotent or error.error_code in NOTHING_SENT)
        and not (count is not None and count.matches(error, status))
        for error, status in errors
    )


@cache
def _classified(code: ErrorCode) -> ErrorClassification:
    return classify_error(PixelLMError(error_code=code))


# What generate() calls


def _calls_of_attempt(config: PolicyConfig, target: str) -> int:
    """The most requests that one attempt makes."""
    if target != GENERATE:
        return 1
    return worst_attempts(_chat_inside(config)) + _calls_of_fallback(config, config.targets.get(CHAT, _NOTHING))


def _inside_generate(config: PolicyConfig, policy: TargetPolicy) -> float | None:
    """The longest time of one attempt of generate(): an injected delay, and what it calls, one after the other."""
    called = [CHAT] if config.lm_studio.vision is Vision.IMAGE else INSIDE_GENERATE
    parts = [compute_bounds(config, name).worst_latency for name in called]
    if policy.chaos is not None and policy.chaos.delay is not None:
        parts.append(policy.chaos.delay.duration)
    return None if None in parts else sum(part for part in parts if part is not None)


def _chat_inside(config: PolicyConfig) -> TargetPolicy:
    """The chat as generate() calls it: within its caller's deadline."""
    chat, generate = config.targets.get(CHAT, _NOTHING), before_fallback(config.targets.get(GENERATE, _NOTHING))
    return before_fallback(dataclasses.replace(chat, deadline=_shorter(chat.deadline, generate.deadline)))


# Time until the breaker opens


def _is_chaotic(config: PolicyConfig, target: str) -> bool:
    """True if chaos is injected into what a call of *target* calls, so that nobody can say how it fails."""
    names = (target, *INSIDE_GENERATE) if target == GENERATE else (target,)
    return any(config.targets.get(name, _NOTHING).chaos is not None for name in names)


def _calls_of_fallback(config: PolicyConfig, policy: TargetPolicy) -> int:
    return calls_of_fallback(policy, lambda name: compute_bounds(config, name).worst_upstream_calls)


def _is_cached(config: PolicyConfig, target: str) -> bool:
    """True if a cache may answer in place of what *target* calls, so that fewer calls fail than are made."""
    names = (target, *INSIDE_GENERATE) if target == GENERATE else (target,)
    return any(config.targets.get(name, _NOTHING).cache is not None for name in names)


def _is_held_back(config: PolicyConfig, target: str, latency: float | None, rate: float) -> bool:
    """
    True if, of *rate* calls a second, a rate limit or a bulkhead may refuse some, or let them wait.

    Within the last *latency* seconds at most ``rate · latency + 1`` calls have begun that are still under way,
    each with one attempt at once; and none of the attempts in a window belongs to one that began longer than
    *latency* before it.
    """
    names = (target, *INSIDE_GENERATE) if target == GENERATE else (target,)
    own = config.targets.get(target, _NOTHING)
    if own.circuit_breaker is None:
        return False
    attempts = worst_attempts(own)
    for name in names:
        policy = config.targets.get(name, _NOTHING)
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


@dataclasses.dataclass(frozen=True, slots=True)
class _Outage:
    """
    What each attempt meets: after *attempt* seconds (None: never, by itself) it fails of one of *codes*.

    It may be sooner, but not before *earliest*; None if it is always *attempt*.
    """

    attempt: float | None
    codes: tuple[ErrorCode, ...]
    earliest: float | None = None


def _refusals(config: PolicyConfig, target: str) -> _Outage | None:
    """Every attempt fails at once: connections are refused, or the encoder fails."""
    if target == GENERATE:
        return _outage_inside(config, _refusals(config, CHAT))
    if target.startswith("encoder."):
        return _Outage(0.0, (ErrorCode.ERR_ENC_FORWARD_FAILED,))
    return _Outage(0.0, (ErrorCode.ERR_CONN_REFUSED,))


def _silence(config: PolicyConfig, target: str) -> _Outage | None:
    """No attempt gets an answer: its timeout ends it. The LM Studio client has a code of its own for that."""
    if target == GENERATE:
        return _outage_inside(config, _silence(config, CHAT))
    policy = config.targets.get(target, _NOTHING)
    codes = [ErrorCode.ERR_TIMEOUT_REQUEST]
    if target.startswith("lm_studio."):
        codes.append(ErrorCode.ERR_TIMEOUT_RESPONSE)
    return _Outage(policy.timeout.attempt if policy.timeout is not None else None, tuple(codes))


def _outage_inside(config: PolicyConfig, outage: _Outage | None) -> _Outage | None:
    """
    What an attempt of generate() meets in an *outage* of LM Studio: the chat's last error, once it has given up.

    None where the chat's own breaker or fallback stands between: what generate() then sees counts as no failure.
    None as well where a retry budget may end the chat at any attempt.
    """
    chat, own = _chat_inside(config), config.targets.get(GENERATE, _NOTHING).timeout
    if outage is None or _refusing(chat) is not None or chat.fallback is not None or _has_budget(chat):
        return None
    timeout = own.attempt if own is not None else None
    chat = dataclasses.replace(chat, deadline=_shorter(chat.deadline, timeout))
    last = _failures(chat, outage)[-1]
    # If it is the timeout of generate() that ends it, either of the two may be the first to say so.
    codes = (*last.codes, ErrorCode.ERR_TIMEOUT_REQUEST) if last.at == timeout else last.codes
    if last.at == math.inf:
        return _Outage(None, codes)
    ends = last.at if outage.attempt is None else last.at + _longest_round(chat, outage.attempt) - outage.attempt
    return _Outage(_shorter(ends, chat.deadline), codes, last.earliest)


@dataclasses.dataclass(frozen=True, slots=True)
class _Failure:
    """
    A failed attempt: between *earliest* and *at* seconds after the call began, of one of *codes*.

    It *lasts* so many seconds, at least; it is *fair* if it is there for certain, and may be counted.
    """

    at: float
    codes: tuple[ErrorCode, ...]
    lasts: float
    earliest: float
    fair: bool = True


def _opens_after(policy: TargetPolicy, outage: _Outage | None, rate: float) -> float | None:
    """
    Seconds from the start of an *outage* until the breaker opens.

    At worst it begins right after a call did, so calls begin at 1/rate, 2/rate, …, and each wait is the
    longest. The breaker opens with the first failure that meets one of its conditions, at worst.
    """
    breaker = policy.circuit_breaker
    if breaker is None or not (breaker.refuses or breaker.measures):
        return None
    if breaker.mode is BreakerMode.FORCED_OPEN:
        return 0.0
    if outage is None:
        return None
    failures = [failure for failure in _failures(policy, outage) if failure.fair and failure.at < math.inf]
    counted = [failure for failure in failures if _count(breaker, failure.codes)]
    if not counted:
        return None
    limit = breaker.slow_call_duration
    slow = limit is not None and all(failure.lasts > limit for failure in counted)
    return opens_after(breaker, [(failure.earliest, failure.at) for failure in counted], rate, slow=slow)


def _failures(policy: TargetPolicy, outage: _Outage) -> list[_Failure]:
    """
    The failed attempts of a call in an *outage* whose waits are the longest; the last one ends it.

    With shorter waits there are as many or more, each as soon or sooner. If the deadline leaves room for more, the
    call then ends at the deadline at the latest: the last failure says so, as one that nobody counts.

    An attempt that the deadline cuts is fairly judged only if it is the first one. Others haven't had their
    full timeout, were it by the moment that goes by between two attempts.
    """
    retry = policy.retry if _retries(policy, outage.codes) else None
    deadline = math.inf if policy.deadline is None else policy.deadline
    at_deadline = (ErrorCode.ERR_TIMEOUT_DEADLINE,)
    longest = math.inf if outage.attempt is None else outage.attempt
    shortest = longest if outage.earliest is None else outage.earliest
    between = longest if outage.attempt is None else _longest_round(policy, outage.attempt)
    failures: list[_Failure] = []
    begins = earliest = 0.0
    for number in range(1 if retry is None else retry.max_attempts):
        certain = not failures or not _has_budget(policy)
        if begins + longest >= deadline - _GRAIN:
            soonest = min(deadline, earliest + shortest)
            codes = at_deadline if soonest >= deadline - _GRAIN else (*at_deadline, *outage.codes)
            lasts = min(deadline - begins, shortest)
            return [*failures, _Failure(deadline, codes, lasts, soonest, fair=not failures)]
        failures.append(_Failure(begins + longest, outage.codes, shortest, earliest + shortest, fair=certain))
        begins += between + (retry.ceiling(number) if retry is not None else 0.0)
        earliest += shortest + (retry.floor(number) if retry is not None else 0.0)
        if begins >= deadline - _GRAIN:
            if retry is not None and number + 1 < retry.max_attempts and earliest < deadline - _GRAIN:
                codes = (*at_deadline, *outage.codes)
                failures.append(_Failure(deadline, codes, 0.0, failures[-1].earliest, fair=False))
            break
    return failures


def _has_budget(policy: TargetPolicy) -> bool:
    """True if a retry budget may end the retries sooner."""
    return policy.retry is not None and policy.retry.budget is not None


def _retries(policy: TargetPolicy, codes: tuple[ErrorCode, ...]) -> bool:
    """True if errors of all of *codes* are retried."""
    retry, sent = policy.retry, policy.idempotent is False
    return retry is not None and all(
        retry.retry_on.retries(_classified(code)) and not (sent and code not in NOTHING_SENT) for code in codes
    )


def _count(breaker: CircuitBreakerConfig, codes: tuple[ErrorCode, ...]) -> bool:
    """True if errors of all of *codes* count as failures."""
    return all(breaker.count.matches(_classified(code)) for code in codes)


def _shorter(first: float | None, second: float | None) -> float | None:
    """The shorter of two durations, None being endless."""
    if first is None or second is None:
        return first if second is None else second
    return min(first, second)
