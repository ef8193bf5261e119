"""Making a schedule that fails smaller, as long as it goes on failing."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

from pixel_llm.policy import TargetPolicy
from soak.schedule import Act, Caller, CallPlan, Schedule


def shrink(schedule: Schedule, fails: Callable[[Schedule], bool], *, seconds: float = 10.0) -> Schedule:
    """The smallest schedule that was found within *seconds* and still *fails*."""
    ends = time.monotonic() + seconds
    smaller: Schedule | None = schedule
    while smaller is not None:
        schedule = smaller
        smaller = next(
            (tried for tried in _smaller(schedule) if time.monotonic() < ends and fails(tried)),
            None,
        )
    return schedule


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    """Schedules that are simpler in one point, the largest steps first."""
    if len(schedule.callers) > 1:
        for callers in _without_one(schedule.callers):
            yield dataclasses.replace(schedule, callers=callers)
    for field in dataclasses.fields(TargetPolicy):
        if getattr(schedule.policy, field.name) not in (None, field.default):
            policy = dataclasses.replace(schedule.policy, **{field.name: field.default})
            yield dataclasses.replace(schedule, policy=policy)
    for index, caller in enumerate(schedule.callers):
        for simpler in _simpler_callers(caller):
            yield dataclasses.replace(schedule, callers=_with(schedule.callers, index, simpler))
    if schedule.lines:
        yield dataclasses.replace(schedule, lines=0, opcodes=False)
    if schedule.opcodes:
        yield dataclasses.replace(schedule, opcodes=False)
    if schedule.shuffled:
        yield dataclasses.replace(schedule, shuffled=False)


def _simpler_callers(caller: Caller) -> Iterator[Caller]:
    if len(caller.calls) > 1:
        for calls in _without_one(caller.calls):
            yield dataclasses.replace(caller, calls=calls)
    for index, plan in enumerate(caller.calls):
        for simpler in _simpler_calls(plan):
            yield dataclasses.replace(caller, calls=_with(caller.calls, index, simpler))


def _simpler_calls(plan: CallPlan) -> Iterator[CallPlan]:
    if len(plan.acts) > 1:
        for acts in _without_one(plan.acts):
            yield dataclasses.replace(plan, acts=acts)
    for name, value in (("pause", 0.0), ("cancel", None), ("key", 0)):
        if getattr(plan, name) != value:
            yield dataclasses.replace(plan, **{name: value})
    for index, act in enumerate(plan.acts):
        for name, value in (("asked", None), ("blocks", False), ("takes", 0.0), ("ends", "ok")):
            if getattr(act, name) != value:
                simpler: Act = dataclasses.replace(act, **{name: value})
                yield dataclasses.replace(plan, acts=_with(plan.acts, index, simpler))


def _without_one(items: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    for index in range(len(items)):
        yield items[:index] + items[index + 1 :]


def _with(items: tuple[Any, ...], index: int, item: Any) -> tuple[Any, ...]:
    return (*items[:index], item, *items[index + 1 :])
