"""What the calls of a target meet in an outage, and how long it takes to open the breaker."""

from __future__ import annotations

import dataclasses
import math

from pixel_llm.errors import ErrorCode
from pixel_llm.policy.bounds.attempts import longest_round, refusing_breaker
from pixel_llm.policy.bounds.durations import GRAIN, shorter
from pixel_llm.policy.bounds.fallbacks import before_fallback
from pixel_llm.policy.bounds.generate import CHAT, GENERATE, NOTHING, chat_inside
from pixel_llm.policy.bounds.openings import opens_after
from pixel_llm.policy.bounds.retried import counts_all, retries_all
from pixel_llm.policy.bounds.servers import servers_asked, silence_of_servers
from pixel_llm.policy.over_routes import is_over_routes
from pixel_llm.policy.sections.circuit_breaker import BreakerMode
from pixel_llm.policy.sections.document import PolicyConfig
from pixel_llm.policy.sections.target import TargetPolicy


@dataclasses.dataclass(frozen=True, slots=True)
class Outage:
    """
    What each attempt meets: after *attempt* seconds (None: never, by itself) it fails of one of *codes*.

    It may be sooner, but not before *earliest*; None if it is always *attempt*.
    """

    attempt: float | None
    codes: tuple[ErrorCode, ...]
    earliest: float | None = None


def refusals(config: PolicyConfig, target: str) -> Outage | None:
    """Every attempt fails at once: connections are refused, or the encoder fails."""
    if target == GENERATE:
        return _outage_inside(config, refusals(config, CHAT))
    if target.startswith("encoder."):
        return Outage(0.0, (ErrorCode.ERR_ENC_FORWARD_FAILED,))
    return Outage(0.0, (ErrorCode.ERR_CONN_REFUSED,))


def silence(config: PolicyConfig, target: str) -> Outage | None:
    """No attempt gets an answer: its timeout ends it. The LM Studio client has a code of its own for that."""
    if target == GENERATE:
        return _outage_inside(config, silence(config, CHAT))
    policy = config.targets.get(target, NOTHING)
    codes = [ErrorCode.ERR_TIMEOUT_REQUEST]
    if target.startswith("lm_studio."):
        codes.append(ErrorCode.ERR_TIMEOUT_RESPONSE)
    if is_over_routes(config, target):
        whole = silence_of_servers(config, target, before_fallback(policy))
        return None if whole is None else Outage(whole, tuple(codes), whole / servers_asked(config, target))
    return Outage(policy.timeout.attempt if policy.timeout is not None else None, tuple(codes))


def _outage_inside(config: PolicyConfig, outage: Outage | None) -> Outage | None:
    """
    What an attempt of generate() meets in an *outage* of LM Studio: the chat's last error, once it has given up.

    None where the chat's own breaker or fallback stands between: what generate() then sees counts as no failure.
    None as well where a retry budget may end the chat at any attempt.
    """
    chat, own = chat_inside(config), config.targets.get(GENERATE, NOTHING).timeout
    if outage is None or refusing_breaker(chat) is not None or chat.fallback is not None or _has_budget(chat):
        return None
    timeout = own.attempt if own is not None else None
    chat = dataclasses.replace(chat, deadline=shorter(chat.deadline, timeout))
    last = _failures(chat, outage)[-1]
    # If it is the timeout of generate() that ends it, either of the two may be the first to say so.
    codes = (*last.codes, ErrorCode.ERR_TIMEOUT_REQUEST) if last.at == timeout else last.codes
    if last.at == math.inf:
        return Outage(None, codes)
    ends = last.at if outage.attempt is None else last.at + longest_round(chat, outage.attempt) - outage.attempt
    return Outage(shorter(ends, chat.deadline), codes, last.earliest)


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """
    A failed attempt: between *earliest* and *at* seconds after the call began, of one of *codes*.

    It *lasts* so many seconds, at least; it is *fair* if it is there for certain, and may be counted.
    """

    at: float
    codes: tuple[ErrorCode, ...]
    lasts: float
    earliest: float
    fair: bool = True


def opens_in(policy: TargetPolicy, outage: Outage | None, rate: float) -> float | None:
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
    counted = [failure for failure in failures if counts_all(breaker, failure.codes)]
    if not counted:
        return None
    limit = breaker.slow_call_duration
    slow = limit is not None and all(failure.lasts > limit for failure in counted)
    return opens_after(breaker, [(failure.earliest, failure.at) for failure in counted], rate, slow=slow)


def _failures(policy: TargetPolicy, outage: Outage) -> list[Failure]:
    """
    The failed attempts of a call in an *outage* whose waits are the longest; the last one ends it.

    With shorter waits there are as many or more, each as soon or sooner. If the deadline leaves room for more, the
    call then ends at the deadline at the latest: the last failure says so, as one that nobody counts.

    An attempt that the deadline cuts is fairly judged only if it is the first one. Others haven't had their
    full timeout, were it by the moment that goes by between two attempts.
    """
    retry = policy.retry if retries_all(policy, outage.codes) else None
    deadline = math.inf if policy.deadline is None else policy.deadline
    at_deadline = (ErrorCode.ERR_TIMEOUT_DEADLINE,)
    longest = math.inf if outage.attempt is None else outage.attempt
    shortest = longest if outage.earliest is None else outage.earliest
    between = longest if outage.attempt is None else longest_round(policy, outage.attempt)
    failures: list[Failure] = []
    begins = earliest = 0.0
    for number in range(1 if retry is None else retry.max_attempts):
        certain = not failures or not _has_budget(policy)
        if begins + longest >= deadline - GRAIN:
            soonest = min(deadline, earliest + shortest)
            codes = at_deadline if soonest >= deadline - GRAIN else (*at_deadline, *outage.codes)
            lasts = min(deadline - begins, shortest)
            return [*failures, Failure(deadline, codes, lasts, soonest, fair=not failures)]
        failures.append(Failure(begins + longest, outage.codes, shortest, earliest + shortest, fair=certain))
        begins += between + (retry.ceiling(number) if retry is not None else 0.0)
        earliest += shortest + (retry.floor(number) if retry is not None else 0.0)
        if begins >= deadline - GRAIN:
            if retry is not None and number + 1 < retry.max_attempts and earliest < deadline - GRAIN:
                codes = (*at_deadline, *outage.codes)
                failures.append(Failure(deadline, codes, 0.0, failures[-1].earliest, fair=False))
            break
    return failures


def _has_budget(policy: TargetPolicy) -> bool:
    """True if a retry budget may end the retries sooner."""
    return policy.retry is not None and policy.retry.budget is not None
