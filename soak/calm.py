"""
The calm after the storm: the target is healthy again, and so must be its stack.

A permit, a slot or a token that the storm has lost is missed here, whatever holds it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import cast

from pixel_llm.policy import TargetPolicy
from pixel_llm.policy.sections.circuit_breaker import BreakerMode
from pixel_llm.resilience import CircuitBreaker, CircuitState
from soak.playing import Play
from soak.records import Call, Value
from soak.schedule import Act, Caller, CallPlan

#: Longer than any cooldown, period and life of a cached result that is drawn, in seconds.
REST = 100_000.0

#: A call that is done before any timeout and deadline that is drawn, but not at once.
_PLAN = CallPlan((Act("ok", takes=1 / 128),), key=0)


def calm(play: Play) -> Iterator[str]:
    """Go through the calm; gives what should not have happened."""
    policy = play.targets.policies[-1]
    section = policy.circuit_breaker
    together = _at_once(policy)
    if policy.chaos is not None or (section is not None and section.mode is BreakerMode.FORCED_OPEN):
        return
    if section is not None and section.mode is BreakerMode.ENABLED:
        for key, breaker in _breakers(play):
            trials = min(section.half_open_max_calls, together)
            for _ in range(section.success_threshold):
                if breaker.state is CircuitState.CLOSED:
                    break
                yield from _all_run(play, trials, "trial calls", key)
            if breaker.state is not CircuitState.CLOSED:
                yield f"in the calm the breaker is {breaker.state} after {section.success_threshold} rounds of trials"
    yield from _all_run(play, together, "calls")


def _breakers(play: Play) -> list[tuple[int, CircuitBreaker]]:
    """The breakers, with the key of the calls that pass each."""
    stack = play.targets.stack
    if stack.breakers is not None:
        return cast("list[tuple[int, CircuitBreaker]]", stack.breakers.items())
    return [] if stack.breaker is None else [(0, stack.breaker)]


def _at_once(policy: TargetPolicy) -> int:
    """How many calls must be able to run at the same time."""
    most = 4 if policy.cache is None else 1  # equal calls are one
    if policy.bulkhead is not None:
        most = min(most, 1 if policy.bulkhead.adaptive is not None else policy.bulkhead.max_concurrent)
    if policy.rate_limit is not None and policy.rate_limit.max_calls is not None:
        most = min(most, policy.rate_limit.max_calls)
    return most


def _all_run(play: Play, number: int, what: str, key: int = 0) -> Iterator[str]:
    plan = dataclasses.replace(_PLAN, key=key)
    calls = [Call(_caller(play), plan, f"calm {position}") for position in range(number)]
    play.most_running = 0
    play.clock.advance_to(play.clock.now + REST)
    play.make(calls)
    wrong = [call for call in calls if not isinstance(call.value, Value) or call.value.made < call.begins]
    for call in wrong:
        yield f"in the calm, {what}: {call.name} of {number} got {call.error or call.value!r}"
    if not wrong and play.most_running != number:
        yield f"in the calm, {what}: {play.most_running} ran at once, not {number}"


def _caller(play: Play) -> Caller:
    """Someone like the first caller."""
    return play.schedule.callers[0]
