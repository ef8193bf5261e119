"""For applications that have a registry of `prometheus_client` already; needs the extra ``prometheus``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "PolicyCollector needs prometheus_client: pip install 'pixel-llm[prometheus]'", name=error.name
    ) from None

from pixel_llm.monitoring.exposition.families import (
    BUCKETS,
    DURATION,
    FAMILIES,
    POLICY_FAMILIES,
    Family,
    Kind,
    S,
    buckets,
    sendable,
)
from pixel_llm.monitoring.snapshot.merging import merged
from pixel_llm.monitoring.snapshot.model import Snapshot, TargetSnapshot
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
    policies = [((sendable(one.profile),), one) for one in snapshots]
    targets = [
        ((sendable(one.profile), sendable(target.target)), target)
        for one in snapshots
        for target in one.targets.values()
    ]
    for of_policy in POLICY_FAMILIES:
        yield _family(of_policy, ("profile",), policies)
    for family in FAMILIES:
        yield _histogram(targets) if family is DURATION else _family(family, ("profile", "target"), targets)


def _family(family: Family[S], whose: tuple[str, ...], sources: Sequence[tuple[tuple[str, ...], S]]) -> Metric:
    make = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    made = make(family.name, family.help, labels=(*whose, *family.labels))
    for who, source in sources:
        for values, number in family.read(source):
            made.add_metric(who + tuple(map(sendable, values)), number)
    return made


def _histogram(targets: Sequence[tuple[tuple[str, str], TargetSnapshot]]) -> Metric:
    made = HistogramMetricFamily(DURATION.name, DURATION.help, labels=("profile", "target"))
    for who, target in targets:
        counts = list(zip(_LE, map(float, buckets(target)), strict=True))
        made.add_metric(who, counts, target.latency_sum)
    return made
