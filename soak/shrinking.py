"""Making a schedule that fails smaller, as long as it goes on failing."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

from pixel_llm.policy import FallbackStrategy, TargetPolicy
from soak.schedule import Act, Caller, CallPlan, Schedule

_SIMPLEST_ACT: tuple[tuple[str, Any], ...] = (
    ("asked", None),
    ("blocks", False),
    ("chunks", ()),
    ("takes", 0.0),
    ("ends", "ok"),
    ("tokens", 0),
)


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
    if schedule.reloads:
        for reloads in _without_one(schedule.reloads):
            yield dataclasses.replace(schedule, reloads=reloads)
    if schedule.bank is not None and not _calls_the_bank(schedule):
        yield dataclasses.replace(schedule, bank=None)
    for policy in _simpler_policies(schedule.policy):
        yield dataclasses.replace(schedule, policy=policy)
    if schedule.bank is not None:
        for policy in _simpler_policies(schedule.bank):
            yield dataclasses.replace(schedule, bank=policy)
    for index, reload in enumerate(schedule.reloads):
        for policy in _simpler_policies(reload.policy):
            simpler_reload = dataclasses.replace(reload, policy=policy)
            yield dataclasses.replace(schedule, reloads=_with(schedule.reloads, index, simpler_reload))
    for index, caller in enumerate(schedule.callers):
        for simpler in _simpler_callers(caller):
            yield dataclasses.replace(schedule, callers=_with(schedule.callers, index, simpler))
    if schedule.traced:
        yield dataclasses.replace(schedule, traced=False)
    if schedule.lines:
        yield dataclasses.replace(schedule, lines=0, opcodes=False)
    if schedule.opcodes:
        yield dataclasses.replace(schedule, opcodes=False)
    if schedule.shuffled:
        yield dataclasses.replace(schedule, shuffled=False)


def _calls_the_bank(schedule: Schedule) -> bool:
    """Whether something would not find the bank."""
    policies = (schedule.policy, *(reload.policy for reload in schedule.reloads))
    steps = [step for policy in policies for step in policy.fallback or ()]
    return any(step.strategy is FallbackStrategy.TARGET for step in steps) or any(
        plan.nested for caller in schedule.callers for plan in caller.calls
    )


def _simpler_policies(policy: TargetPolicy) -> Iterator[TargetPolicy]:
    for field in dataclasses.fields(TargetPolicy):
        if getattr(policy, field.name) not in (None, field.default):
            simpler: dict[str, Any] = {field.name: field.default}
            yield dataclasses.replace(policy, **simpler)
    if policy.fallback is not None and len(policy.fallback) > 1:
        for steps in _without_one(policy.fallback):
            yield dataclasses.replace(policy, fallback=steps)


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
    plain: dict[str, Any] = {
        "pause": 0.0,
        "cancel": None,
        "key": 0,
        "reading": None,
        "nested": False,
        "elsewhere": (Act(),),
    }
    for name, value in plain.items():
        if getattr(plan, name) != value:
            yield dataclasses.replace(plan, **{name: value})
    if plan.reading is not None:
        simplest: dict[str, Any] = {"pauses": (0.0,), "leaves": None, "closes": True, "beside": None}
        for name, value in simplest.items():
            if getattr(plan.reading, name) != value:
                yield dataclasses.replace(plan, reading=dataclasses.replace(plan.reading, **{name: value}))
    for index, act in enumerate(plan.acts):
        for name, value in _SIMPLEST_ACT:
            if getattr(act, name) != value:
                simpler: Act = dataclasses.replace(act, **{name: value})
                yield dataclasses.replace(plan, acts=_with(plan.acts, index, simpler))


def _without_one(items: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    for index in range(len(items)):
        yield items[:index] + items[index + 1 :]


def _with(items: tuple[Any, ...], index: int, item: Any) -> tuple[Any, ...]:
    return (*items[:index], item, *items[index + 1 :])
