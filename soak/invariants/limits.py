"""What must hold for all calls of a place together: how many at once, how many in a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from pixel_llm.policy import TargetPolicy
from soak.invariants.case import GRAIN
from soak.playing import Play
from soak.policies import BANK
from soak.records import Attempt, Chunk, Value, tokens_of
from soak.targets import TARGET

#: As good as no limit on the calls at once.
MANY = 1000

#: Takes a policy; gives what must stay the same for attempts under it to be counted together.
Kept = Callable[[TargetPolicy], object]

Group = tuple[str, list[TargetPolicy], list[Attempt]]


def groups(play: Play, kept: Kept) -> Iterator[Group]:
    """
    Each place, its policies one after the other for which *kept* gives the same, and the attempts under these.

    Those whose call began while the policy was loaded again are in none, unless both policies are in one group.
    """
    places: dict[str, list[Attempt]] = {}
    for attempt in play.attempts:
        places.setdefault(attempt.place, []).append(attempt)
    for place, attempts in places.items():
        if place.startswith(BANK):
            bank = play.schedule.bank
            assert bank is not None
            yield place, [bank], attempts
        elif place.startswith(TARGET):
            # Other models have a stack of their own, which may be made when its policy is in force no longer.
            same: Kept = kept if place == TARGET else id
            for numbers in _periods(play.targets.policies, same):
                policies = play.targets.policies[numbers.start : numbers.stop]
                yield place, policies, [attempt for attempt in attempts if _is_under(attempt, numbers)]


def _periods(policies: list[TargetPolicy], kept: Kept) -> Iterator[range]:
    """The numbers of the policies one after the other for which *kept* gives the same."""
    starts = [0, *(number + 1 for number, (a, b) in enumerate(pairwise(policies)) if kept(a) != kept(b))]
    for start, end in pairwise([*starts, len(policies)]):
        yield range(start, end)


def _is_under(attempt: Attempt, numbers: range) -> bool:
    call = attempt.call
    while call.outer is not None:
        call = call.outer.call
    return call.first_policy in numbers and call.last_policy in numbers


def _limits_of(play: Play, policies: list[TargetPolicy], attempt: Attempt, since: float) -> list[TargetPolicy]:
    """Those of a group's *policies* whose limits *attempt* may have been admitted by, at or after *since*."""
    known = play.targets.policies
    if len(known) == 1 or attempt.place.startswith(BANK):
        return policies
    numbers = play.targets.in_force(since - play.blocked - GRAIN, attempt.begins)
    if attempt.place != TARGET:  # what another model knows goes on with its place, if it was there by then
        return [*policies, *(known[number] for number in numbers)]
    found = [known[number] for number in numbers if any(known[number] is policy for policy in policies)]
    return found or policies[-1:]  # the last one's limits stay, whatever comes after


def most_at_once(attempts: list[Attempt]) -> int:
    """The most of *attempts* that ever were under way together."""
    moments = [(attempt.began, 1) for attempt in attempts]
    ends = [[end for end in (attempt.ended, attempt.let_go) if end is not None] for attempt in attempts]
    moments += [(min(end), -1) for end in ends if end]
    now = most = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    return most


def _bulkhead(play: Play) -> Iterator[str]:
    """Whoever begins is one of no more than the limit that is in force: those count that began under another one."""
    for place, policies, attempts in groups(play, lambda policy: policy.bulkhead is not None):
        if policies[0].bulkhead is None or (len(policies) > 1 and any(policy.chaos for policy in policies)):
            continue  # chaos delays attempts between their admission and the callable
        for attempt in attempts:
            most = max(_slots(policy) for policy in _limits_of(play, policies, attempt, _has_its_slot(attempt)))
            together = sum(_is_under_way(other, attempt.began) for other in attempts)
            if together > most:
                yield f"{place}: {together} attempts ran at once, though {most} is the most"
                break


def _slots(policy: TargetPolicy) -> int:
    return MANY if policy.bulkhead is None else policy.bulkhead.max_concurrent


def _has_its_slot(attempt: Attempt) -> float:
    """The moment since which *attempt* may have had its slot: it may have waited for its turn with it."""
    ends = [other.ends for other in attempt.call.attempts if other.ended is not None and other.ended < attempt.began]
    return max([attempt.call.begins, *(end for end in ends if end is not None)])


def _is_under_way(attempt: Attempt, at: int) -> bool:
    ends = [end for end in (attempt.ended, attempt.let_go) if end is not None]
    return attempt.began <= at and (not ends or min(ends) > at)


def _single_flight(play: Play) -> Iterator[str]:
    """Equal calls at once make one, unless a leader makes them; an abandoned thread may run beside the next."""
    is_led = any(policy.cache is not None for policy in play.targets.policies)
    for place, policies, attempts in groups(play, lambda policy: (policy.cache, policy.hedge)):
        policy = policies[0]
        if policy.cache is None or place not in (TARGET, BANK) or (place == BANK and is_led):
            continue
        most = 1 if policy.hedge is None else 1 + policy.hedge.max_hedges
        by_key: dict[int, list[Attempt]] = {}
        for attempt in attempts:
            if play.place_of(attempt.call) == place and not attempt.call.is_stream:
                by_key.setdefault(attempt.call.plan.key, []).append(attempt)
        for equal in by_key.values():
            callers = [attempt.call.caller for attempt in equal]
            plain = any(caller.world == "sync" and (policy.hedge or not caller.cooperative) for caller in callers)
            if not plain and (together := most_at_once(equal)) > most:
                yield f"{place}: {together} attempts of equal calls ran at once"


def _rate(play: Play) -> Iterator[str]:
    """A window in which a call starts holds no more than the limit in force: those count that began under another."""
    for place, policies, attempts in groups(play, lambda policy: policy.rate_limit is not None):
        if policies[0].rate_limit is None or any(policy.chaos is not None for policy in policies):
            continue  # chaos delays attempts between their admission and the callable
        starts = sorted(attempt.begins for attempt in attempts)
        for attempt in attempts:
            found = [
                _too_many(
                    policy, attempt, [start for start in starts if start > _counts_from(play, policy)], play.blocked
                )
                for policy in _limits_of(play, policies, attempt, attempt.begins)
            ]
            if all(found):
                yield f"{place}: {found[0]}"
                break


def _counts_from(play: Play, policy: TargetPolicy) -> float:
    """The moment from which on starts count for *policy*: a limit that was not there before knows of none."""
    known = play.targets.policies
    number = next((number for number, one in enumerate(known) if one is policy), 0)
    while number and _max_calls(known[number - 1]) is not None:
        number -= 1
    return play.targets.changes[number - 1][1] if number else -math.inf


def _max_calls(policy: TargetPolicy) -> int | None:
    return None if policy.rate_limit is None else policy.rate_limit.max_calls


def _too_many(policy: TargetPolicy, attempt: Attempt, starts: list[float], blocked: float) -> str:
    """What is wrong with the window that ends with *attempt*; empty if nothing is."""
    rate = policy.rate_limit
    if rate is None or rate.max_calls is None:
        return ""
    within = sum(attempt.begins - rate.period + blocked + GRAIN < start <= attempt.begins for start in starts)
    if within <= rate.max_calls:
        return ""
    return f"{within} attempts began within {rate.period:g} s, though {rate.max_calls} is the most"


def _tokens(play: Play) -> Iterator[str]:
    """
    The bound of a bucket: up to an attempt, any time of W seconds has used less than ``max_tokens + W · rate``.

    What was used in the very moment in which it begins may have been charged after it. A policy that has no such
    bucket, or another one, forgets what was used before it.
    """
    charges = _charges(play)
    for place, policies, attempts in groups(play, _bucket):
        tokens = policies[0].rate_limit.tokens if policies[0].rate_limit is not None else None
        if tokens is None or policies[0].chaos is not None:
            continue
        rate = tokens.max_tokens / tokens.period
        known = sorted(charges[attempt.number] for attempt in attempts if attempt.number in charges)
        for attempt in attempts:
            latest = attempt.begins - play.blocked - GRAIN
            if _has_changed(play, place, policies[0], latest, attempt.begins):
                continue
            used = 0
            for moment, number in reversed([one for one in known if one[0] < latest]):
                if _has_changed(play, place, policies[0], moment, attempt.begins):
                    break
                used += number
                most = tokens.max_tokens + rate * (attempt.begins - moment + play.blocked)
                if used >= most + GRAIN:
                    yield f"{place}: an attempt began after {used} tokens, though less than {most:g} may be used"
                    return


def _bucket(policy: TargetPolicy) -> object:
    """What a bucket of tokens is the same for."""
    return (None if policy.rate_limit is None else policy.rate_limit.tokens), policy.chaos is None


def _has_changed(play: Play, place: str, policy: TargetPolicy, since: float, until: float) -> bool:
    """Whether another bucket than that of *policy* may have been in force from *since* to *until*."""
    if place.startswith(BANK):
        return False
    numbers = play.targets.in_force(since, until)
    return any(_bucket(play.targets.policies[number]) != _bucket(policy) for number in numbers)


def _charges(play: Play) -> dict[int, tuple[float, int]]:
    """What attempts have certainly used, and when that was charged."""
    charges: dict[int, tuple[float, int]] = {}
    for call in (*play.calls, *play.nested_calls):
        if call.state != "value":
            continue
        value = call.chunks[0] if call.chunks else call.value
        if isinstance(value, Chunk) and play.attempts[value.attempt].call is call:
            charges[value.attempt] = call.reads[-1].ended, tokens_of(tuple(call.chunks))
        elif isinstance(value, Value) and not isinstance(value, Chunk):
            charges[value.attempt] = value.made, value.tokens
    return charges


def _nothing_is_held(play: Play) -> Iterator[str]:
    """When all has ended, no stack holds a slot for anybody, lets anybody wait, or counts on a thread."""
    for stack in play.targets.stacks():
        bulkhead = stack.admission.bulkhead if stack.admission is not None else None
        if bulkhead is not None and (bulkhead.in_use or bulkhead.waiting):
            yield f"{stack.target}: {bulkhead.in_use} slots are in use, {bulkhead.waiting} calls wait for one"
        rate_limit = stack.admission.rate_limit if stack.admission is not None else None
        if rate_limit is not None and rate_limit.waiting:
            yield f"{stack.target}: {rate_limit.waiting} calls wait for their turn"
        threads: Any = vars(stack).get("abandoned_threads")
        if threads is not None and threads.count:
            yield f"{stack.target}: {threads.count} threads count as abandoned"


CHECKS: tuple[Callable[[Play], Iterator[str]], ...] = (
    _bulkhead,
    _single_flight,
    _rate,
    _tokens,
    _nothing_is_held,
)
