"""How well the targets are: a judgement on a snapshot, for people and for load balancers."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pixel_llm.monitoring.snapshot.merging import merged
from pixel_llm.monitoring.snapshot.model import BreakerSnapshot, RecentError, Snapshot, TargetSnapshot

#: A bulkhead's queue that is filled to this share, or a retry budget that is spent to it, degrades a target.
NEARLY_FULL = 0.8

#: Where of the calls of the last minute this share failed, and so many did, a target is degraded.
MANY_FAIL, AT_LEAST = 0.2, 3

#: And so it is failing, unless a circuit breaker that is not closed sees to it, or something serves in their place.
NEARLY_ALL_FAIL, AT_LEAST_OF_ALL = 0.9, 10

#: Where its limits refuse this share of the calls of the last minute, a target is degraded.
MANY_REFUSED = 0.05


class HealthStatus(StrEnum):
    """
    FAILING: an open breaker refuses the calls, or nearly all of the last minute have failed, and nothing serves in
    their place. DEGRADED: something is wrong, and calls are still served, or some of them. OK: neither.
    """

    OK = "ok"
    DEGRADED = "degraded"
    FAILING = "failing"


_RANK = {status: rank for rank, status in enumerate(HealthStatus)}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetHealth:
    """
    How one target is. Immutable.

    Attributes:
        profile: The profile of its policy.
        target: Its name.
        status: The judgement.
        reasons: Why it is not ok, in words.
        breakers: The state of each of its breakers, by key; empty for the only one.
        saturation: The share of its bulkhead that is in use, 0 to 1; None without one.
        last_error: The last error of an attempt or a call; None if there was none.
    """

    profile: str
    target: str
    status: HealthStatus
    reasons: tuple[str, ...]
    breakers: dict[str, str]
    saturation: float | None
    last_error: RecentError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a process is: as bad as its worst target, places of a target aside. Immutable."""

    status: HealthStatus
    targets: tuple[TargetHealth, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "status": self.status.value,
            "targets": [
                dataclasses.asdict(target) | {"status": target.status.value, "reasons": list(target.reasons)}
                for target in self.targets
            ],
        }


def judge(snapshots: Iterable[Snapshot]) -> Health:
    """
    The health of the targets of *snapshots*.

    A target of several policies of one profile is judged in each, and the worst counts: what serves well in one of them
    does not serve the calls of the other. What it holds is merged as in metrics.
    """
    snapshots = tuple(snapshots)
    judged: dict[tuple[str, str], list[tuple[HealthStatus, list[str]]]] = defaultdict(list)
    for snapshot in snapshots:
        for target in snapshot.targets.values():
            judged[snapshot.profile, target.target].append(_judge(target, snapshot))
    targets = [
        _described(snapshot.profile, target, judged[snapshot.profile, target.target])
        for snapshot in merged(snapshots)
        for target in snapshot.targets.values()
    ]
    wholes = [target.status for target in targets if not is_place(target.target)]
    return Health(status=max(wholes, key=_RANK.__getitem__, default=HealthStatus.OK), targets=tuple(targets))


def is_place(target: str) -> bool:
    """True for a place of a target: one server of several, or what a fallback calls. Others stand in for it."""
    return target.endswith("]")


def _described(profile: str, target: TargetSnapshot, judged: list[tuple[HealthStatus, list[str]]]) -> TargetHealth:
    """*target* of all policies of *profile*, by how it was *judged* in each."""
    worst_first = sorted(judged, key=lambda one: -_RANK[one[0]])
    enforcing_last = sorted(target.breakers, key=lambda breaker: not breaker.shadow)
    return TargetHealth(
        profile=profile,
        target=target.target,
        status=worst_first[0][0],
        reasons=tuple(dict.fromkeys(reason for _, reasons in worst_first for reason in reasons)),
        breakers={breaker.key: breaker.state for breaker in enforcing_last},
        saturation=None if target.bulkhead is None else target.bulkhead.in_use / max(1, target.bulkhead.limit),
        last_error=target.last_error,
    )


def _judge(target: TargetSnapshot, snapshot: Snapshot) -> tuple[HealthStatus, list[str]]:
    """How *target* is, and why it is not ok."""
    reasons = list(_reasons(target))
    refuses = _refuses(target)
    places = [snapshot.targets[name] for name in snapshot.targets if name.startswith(f"{target.target}[endpoint=")]
    down = sum(map(_refuses, places))
    if down:
        reasons.append(f"{down} of {len(places)} endpoints are down: their circuit breakers are open")
        refuses = down == len(places)
    status = HealthStatus.DEGRADED if reasons else HealthStatus.OK
    # A breaker that is not closed knows better: once its cooldown is over, calls are wanted, to try.
    tended = any(_is_tripped(breaker) for one in (target, *places) for breaker in one.breakers)
    if (refuses or (not tended and _nearly_all_fail(target))) and not target.has_fallback:
        status = HealthStatus.FAILING
    return status, reasons


def _refuses(target: TargetSnapshot) -> bool:
    """True if all its breakers refuse. One whose cooldown is over does not: the next call is a trial, if one comes."""
    return bool(target.breakers) and all(breaker.refuses for breaker in target.breakers)


def _is_tripped(breaker: BreakerSnapshot) -> bool:
    return breaker.state != "closed" and not breaker.shadow


def _nearly_all_fail(target: TargetSnapshot) -> bool:
    """True if it can't serve. What its own limits refuse is no sign of that: they let others in."""
    recent = target.recent
    return (
        recent is not None
        and recent.failed >= AT_LEAST_OF_ALL
        and recent.failed >= NEARLY_ALL_FAIL * (recent.succeeded + recent.failed)
    )


def _reasons(target: TargetSnapshot) -> Iterator[str]:
    recent = target.recent
    for breaker in target.breakers:
        if _is_tripped(breaker):
            of = f" of {breaker.key!r}" if breaker.key else ""
            yield f"the circuit breaker{of} is {breaker.state.replace('_', ' ')}"
    if recent is not None and recent.failed >= max(AT_LEAST, MANY_FAIL * recent.calls):
        yield f"{recent.failed} of the {recent.calls} calls of the last minute failed"
    if recent is not None and recent.refused and recent.refused >= MANY_REFUSED * recent.calls:
        yield f"its limits refused {recent.refused} of the {recent.calls} calls of the last minute"
    bulkhead = target.bulkhead
    if bulkhead is not None and bulkhead.max_waiting and bulkhead.waiting >= NEARLY_FULL * bulkhead.max_waiting:
        yield f"{bulkhead.waiting} of {bulkhead.max_waiting} calls that may wait for the bulkhead do"
    budget = target.retry_budget
    failed = recent is not None and recent.failed  # a budget that grants no retry harms nobody while nothing fails
    if budget is not None and (budget.spent or failed) and budget.ratio >= NEARLY_FULL:
        yield f"the retry budget is spent to {budget.ratio:.0%}"
    if target.max_abandoned_threads and target.abandoned_threads >= target.max_abandoned_threads:
        yield f"{target.abandoned_threads} threads run on after their time: calls are refused"
