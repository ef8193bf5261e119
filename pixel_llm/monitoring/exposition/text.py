"""
The text that Prometheus scrapes, written from snapshots.

`prometheus_client` writes the same text of :class:`pixel_llm.monitoring.prometheus.PolicyCollector`, a test
compares them; but it takes several microseconds for each of the lines, and a thousand targets have forty thousand.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable

from pixel_llm.monitoring.exposition.families import BUCKETS, BUILD_INFO, DURATION, FAMILIES, STARTED, Family, buckets
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
    lines: list[str] = []
    _head(lines, BUILD_INFO[0], "gauge", BUILD_INFO[2])
    for one in shown:
        values = (one.profile, one.version, platform.python_version())
        lines.append(f"{BUILD_INFO[0]}{{{_pairs(BUILD_INFO[1], values)}}} 1\n")
    _head(lines, STARTED[0], "gauge", STARTED[2])
    lines += [f"{STARTED[0]}{{{_pairs(STARTED[1], (one.profile,))}}} {_number(one.since)}\n" for one in shown]
    for family in FAMILIES:
        _head(lines, family.name, family.kind.value, family.help)
        if family is DURATION:
            _histograms(lines, targets)
        else:
            _samples(lines, family, targets)
    return "".join(lines)


def _samples(lines: list[str], family: Family, targets: list[tuple[str, TargetSnapshot]]) -> None:
    name, labels, read = family.name, family.labels, family.read
    written: dict[tuple[str, ...], str] = {(): "} "}  # the labels after the target's, each set once
    for who, target in targets:
        for values, number in read(target):
            rest = written.get(values)
            if rest is None:
                rest = written[values] = f",{_pairs(labels, values)}}} "
            lines.append(f"{name}{{{who}{rest}{number if type(number) is int else _number(number)}\n")


def _histograms(lines: list[str], targets: list[tuple[str, TargetSnapshot]]) -> None:
    # All lines of a target at once: half of an exposition is buckets.
    for who, target in targets:
        counts = buckets(target)
        lines.append((_HISTOGRAM % (*counts, counts[-1], _number(target.latency_sum))).replace("\0", who))


def _head(lines: list[str], name: str, kind: str, text: str) -> None:
    lines.append(f"# HELP {name} {text}\n# TYPE {name} {kind}\n")


def _pairs(labels: Iterable[str], values: Iterable[str]) -> str:
    return ",".join(f'{label}="{_escaped(value)}"' for label, value in zip(labels, values, strict=True))


def _escaped(text: str) -> str:
    # A lone surrogate, as in a key that is no Unicode, can't be sent.
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode()


def _number(value: float) -> str:
    return repr(float(value)) if value != int(value) else str(int(value))
