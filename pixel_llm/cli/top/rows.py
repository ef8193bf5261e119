"""From two snapshots to the figures of a view: what has happened between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pixel_llm.monitoring.snapshot.model import Snapshot, TargetSnapshot
from pixel_llm.resilience.counters import Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One target. Shares are of its calls, 0 to 1, and None if there were none; times are seconds.

    Attributes:
        target: Its name.
        rate: Calls a second.
        failed: The share that failed, served by a fallback or not.
        degraded: The share that a fallback served.
        p50: Half of those that succeeded took at most so long.
        p95: And 95 % of them so long.
        breaker: The worst state of its breakers; empty without one.
        busy: How full its bulkhead is, such as ``3/4`` and, if calls wait, ``4/4+2``; empty without one.
    """

    target: str
    rate: float
    failed: float | None
    degraded: float | None
    p50: float | None
    p95: float | None
    breaker: str
    busy: str


def rows(before: Snapshot | None, now: Snapshot) -> list[Row]:
    """
    The targets of *now* that were ever called or are in trouble; figures since *before*, or since the start.

    Whoever makes *before* sees to it that it is of the same process, as :func:`earlier` does.
    """
    since = now.since if before is None else before.taken_at
    seconds, life = max(1e-9, now.taken_at - since), now.taken_at - now.since
    nothing = TargetSnapshot(target="")
    found = []
    for name, target in now.targets.items():
        breaker = _worst(target)
        if target.calls or target.refusals or breaker not in ("", "closed") or _is_busy(target):
            then = nothing if before is None else before.targets.get(name, nothing)
            found.append(_row(target, then if _grew(then, target) else nothing, seconds, life, breaker))
    return found


def earlier(before: Snapshot | None, now: Snapshot) -> Snapshot | None:
    """*before*, if the process that *now* is of has begun by then; one that was started again counts anew."""
    return None if before is None or now.since > before.taken_at else before


def _grew(then: TargetSnapshot, target: TargetSnapshot) -> bool:
    """True unless the policy has lost *target* meanwhile, and has it again, with new counters."""
    counters = [(one.succeeded, one.failed, one.degraded, *one.latency.counts) for one in (then, target)]
    return all(map(int.__le__, *counters))


def _row(target: TargetSnapshot, then: TargetSnapshot, seconds: float, life: float, breaker: str) -> Row:
    calls = target.calls - then.calls
    counts = tuple(map(int.__sub__, target.latency.counts, then.latency.counts))
    latency = Histogram(target.latency.bounds, counts)
    return Row(
        target=target.target,
        rate=calls / seconds,
        failed=(target.failed - then.failed) / calls if calls else None,
        degraded=(target.degraded - then.degraded) / calls if calls else None,
        p50=_within(life, latency.quantile(0.5)),
        p95=_within(life, latency.quantile(0.95)),
        breaker=breaker,
        busy="".join(_busy(target)),
    )


def _within(life: float, latency: float | None) -> float | None:
    """*latency*, which is known by a bucket that doubles, but none that is longer than all has lasted."""
    return latency if latency is None or life <= 0 else min(latency, life)


def _worst(target: TargetSnapshot) -> str:
    """The worst state, and of how many breakers, where there are several. Shadows only count if there are no others."""
    enforcing = [breaker.state for breaker in target.breakers if not breaker.shadow]
    states = enforcing or [breaker.state for breaker in target.breakers]
    mark = "" if enforcing or not states else " (shadow)"
    for state in ("open", "half_open", "closed"):
        number = states.count(state)
        if number:
            word = state.replace("_", " ")
            return (word if len(states) == 1 or state == "closed" else f"{number} {word}") + mark
    return ""


def _is_busy(target: TargetSnapshot) -> bool:
    return target.bulkhead is not None and bool(target.bulkhead.in_use or target.bulkhead.waiting)


def _busy(target: TargetSnapshot) -> Iterator[str]:
    bulkhead = target.bulkhead
    if bulkhead is not None:
        yield f"{bulkhead.in_use}/{bulkhead.limit}"
        if bulkhead.waiting:
            yield f"+{bulkhead.waiting}"
