"""What must hold after every schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from soak.invariants import calls, counting, keys, limits, nesting, spans, streams
from soak.invariants.case import Case
from soak.playing import Play

_CALL_CHECKS: tuple[Callable[[Case], Iterator[str]], ...] = (*calls.CHECKS, *nesting.CHECKS, *streams.CHECKS)

_CHECKS: tuple[Callable[[Play], Iterator[str]], ...] = (*limits.CHECKS, *counting.CHECKS, *keys.CHECKS, *spans.CHECKS)


def violations(play: Play) -> list[str]:
    """Everything that should not have happened, in words."""
    found = play.look_around()
    found += play.trials.problems
    found += play.trials.left()
    bounds = Case.all_bounds(play)
    for call in (*play.calls, *play.nested_calls):
        cases = [_of_call(case) for case in Case.each(play, call, bounds)]
        least = min(cases, key=len)
        found += least
    for check in _CHECKS:
        found += check(play)
    return found


def _of_call(case: Case) -> list[str]:
    return [f"{case.call.name}: {text}" for check in _CALL_CHECKS for text in check(case)]
