"""What must hold for circuit breakers, one or one for each key."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from pixel_llm.events import CircuitStateChanged
from pixel_llm.resilience.breaker.words import breaker_label
from soak.invariants.case import GRAIN
from soak.playing import Play
from soak.policies import KEYS
from soak.targets import TARGET


def _cooldown(play: Play) -> Iterator[str]:
    """An open breaker stays open for its cooldown, unless it is forgotten for others, or has another section now."""
    section = play.schedule.policy.circuit_breaker
    if section is None or section.max_keys < KEYS:
        return
    if any(policy.circuit_breaker != section for policy in play.targets.policies):
        return
    opened: dict[str | None, float] = {}
    for moment, event in play.events:
        if not isinstance(event, CircuitStateChanged) or event.target != TARGET:
            continue
        since = opened.get(event.breaker, -math.inf)
        if event.new_state == "open":
            opened[event.breaker] = moment
        elif event.old_state == "open" and moment < since + section.cooldown - play.blocked - GRAIN:
            yield f"the breaker was open for {moment - since:g} s, its cooldown being {section.cooldown:g} s"


def _bounded(play: Play) -> Iterator[str]:
    for stack in play.targets.stacks():
        section = stack.policy.circuit_breaker
        if stack.breakers is not None and section is not None and len(stack.breakers) > section.max_keys:
            yield f"{stack.target}: {len(stack.breakers)} breakers, though {section.max_keys} is the most"


def _opened_by_their_own(play: Play) -> Iterator[str]:
    """What opens the breaker of a key are attempts of that key."""
    if any(policy.chaos is not None for policy in play.targets.policies):
        return
    labels = {breaker_label(attempt.call.plan.key) for attempt in play.attempts if attempt.place == TARGET}
    for _, event in play.events:
        if not isinstance(event, CircuitStateChanged) or event.target != TARGET or event.breaker is None:
            continue
        if event.new_state == "open" and event.breaker not in labels:
            yield f"the breaker of {event.breaker} has opened, and nobody called that"


CHECKS: tuple[Callable[[Play], Iterator[str]], ...] = (_cooldown, _bounded, _opened_by_their_own)
