"""For applications that have a registry of `prometheus_client` already; needs the extra ``prometheus``."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "PolicyCollector needs prometheus_client: pip install 'pixel-llm[prometheus]'", name=error.name
    ) from None

from pixel_llm.monitoring.exposition.families import (
    BUCKETS,
    BUILD_INFO,
    DURATION,
    FAMILIES,
    STARTED,
    Family,
    Kind,
    buckets,
)
from pixel_llm.monitoring.snapshot.merging import merged
from pixel_llm.monitoring.snapshot.model import Snapshot
from pixel_llm.monitoring.sources import HasSnapshot, snapshots_of

_LE = [*map(repr, BUCKETS), "+Inf"]


class PolicyCollector(Collector):
    """
    The metrics of policies, for a registry: ``REGISTRY.register(PolicyCollector(policies))``.

    Safe for concurrent use. Policies of the same profile are summed up, since their series have the same labels.

    Args:
        policies: One or several.
    """

    def __init__(self, policies: HasSnapshot | Iterable[HasSnapshot]) -> None:
        self._read = snapshots_of(policies)

    def describe(self) -> Iterator[Metric]:
        """The metrics without samples: registering asks no stack."""
        yield from _families(())

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        yield from _families(merged(self._read()))


def _families(snapshots: tuple[Snapshot, ...]) -> Iterator[Metric]:
    info = GaugeMetricFamily(BUILD_INFO[0], BUILD_INFO[2], labels=BUILD_INFO[1])
    started = GaugeMetricFamily(STARTED[0], STARTED[2], labels=STARTED[1])
    for one in snapshots:
        info.add_metric((one.profile, one.version, platform.python_version()), 1)
        started.add_metric((one.profile,), one.since)
    yield from (info, started)
    for family in FAMILIES:
        yield _histogram(snapshots) if family is DURATION else _family(family, snapshots)


def _family(family: Family, snapshots: tuple[Snapshot, ...]) -> Metric:
    make = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    made = make(family.name, family.help, labels=("profile", "target", *family.labels))
    for one in snapshots:
        for target in one.targets.values():
            for values, number in family.read(target):
                made.add_metric((one.profile, target.target, *values), number)
    return made


def _histogram(snapshots: tuple[Snapshot, ...]) -> Metric:
    made = HistogramMetricFamily(DURATION.name, DURATION.help, labels=("profile", "target"))
    for one in snapshots:
        for target in one.targets.values():
            counts = list(zip(_LE, map(float, buckets(target)), strict=True))
            made.add_metric((one.profile, target.target), counts, target.latency_sum)
    return made
