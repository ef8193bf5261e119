"""
The text that Prometheus scrapes, written from snapshots.

`prometheus_client` writes the same text of :class:`pixel_llm.monitoring.prometheus.PolicyCollector`, a test
compares them; but it takes several microseconds for each of the lines, and a thousand targets have forty thousand.
"""

from __future__ import annotations

from collections.abc import Iterable

from pixel_llm.monitoring.exposition.families import (
    BUCKETS,
    DURATION,
    FAMILIES,
    POLICY_FAMILIES,
    Family,
    S,
    buckets,
    sendable,
)
from pixel_llm.monitoring.snapshot.merging import merged
from pixel_llm.monitoring.snapshot.model import Snapshot, TargetSnapshot

#: The content type of the text.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: The lines of one target, with a NUL for what says whose they are.
_HISTOGRAM = (
    "".join(f'{DURATION.name}_bucket{{\0,le="{le}"}} %d\n' for le in (*map(repr, BUCKETS), "+Inf"))
    + f"{DURATION.name}_count{{\0}} %d\n{DURATION.name}_sum{{\0}} %s\n"
)
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def write_text(snapshots: Iterable[Snapshot]) -> str:
    """The exposition of *snapshots*; those of one profile are merged."""
    shown = merged(snapshots)
    targets = [
        (f'profile="{_escaped(one.profile)}",target="{_escaped(target.target)}"', target)
        for one in shown
        for target in one.targets.values()
    ]
    policies = [(f'profile="{_escaped(one.profile)}"', one) for one in shown]
    lines: list[str] = []
    for of_policy in POLICY_FAMILIES:
        _samples(lines, of_policy, policies)
    for family in FAMILIES:
        if family is DURATION:
            _histograms(lines, targets)
        else:
            _samples(lines, family, targets)
    return "".join(lines)


def _samples(lines: list[str], family: Family[S], sources: list[tuple[str, S]]) -> None:
    _head(lines, family)
    name, labels, read = family.name, family.labels, family.read
    written: dict[tuple[str, ...], str] = {(): "} "}  # the labels after those of the source, each set once
    for who, source in sources:
        for values, number in read(source):
            rest = written.get(values)
            if rest is None:
                rest = written[values] = f",{_pairs(labels, values)}}} "
            lines.append(f"{name}{{{who}{rest}{number if type(number) is int else _number(number)}\n")


def _histograms(lines: list[str], targets: list[tuple[str, TargetSnapshot]]) -> None:
    _head(lines, DURATION)
    # All lines of a target at once: half of an exposition is buckets.
    for who, target in targets:
        counts = buckets(target)
        lines.append((_HISTOGRAM % (*counts, counts[-1], _number(target.latency_sum))).replace("\0", who))


def _head(lines: list[str], family: Family[S]) -> None:
    lines.append(f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind.value}\n")


def _pairs(labels: Iterable[str], values: Iterable[str]) -> str:
    return ",".join(f'{label}="{_escaped(value)}"' for label, value in zip(labels, values, strict=True))


def _escaped(text: str) -> str:
    return sendable(text).translate(_ESCAPES)


def _number(value: float) -> str:
    return repr(float(value)) if value != int(value) else str(int(value))
