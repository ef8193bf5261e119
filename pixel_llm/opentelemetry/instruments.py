"""
The instruments of what the stacks know, by the families of the exposition: names, units and how they are read.

What an exporter for Prometheus makes of a name and a unit is the family's own name, so that one dashboard serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from pixel_llm.monitoring.exposition.families import FAMILIES, POLICY_FAMILIES, Family, Kind
from pixel_llm.monitoring.snapshot.model import Snapshot, TargetSnapshot
from pixel_llm.opentelemetry.watched import Watched

#: Name and unit of the instrument, by the family's name. The family of the durations is a histogram of its own, see
#: :mod:`pixel_llm.opentelemetry.recorder`.
NAMES: dict[str, tuple[str, str]] = {
    "pixel_llm_build_info": ("pixel_llm.build_info", ""),
    "pixel_llm_started_timestamp_seconds": ("pixel_llm.started.timestamp", "s"),
    "pixel_llm_policy_reloads_total": ("pixel_llm.policy.reloads", "{reload}"),
    "pixel_llm_policy_last_reload_successful": ("pixel_llm.policy.last_reload_successful", ""),
    "pixel_llm_calls_total": ("pixel_llm.calls", "{call}"),
    "pixel_llm_calls_recovered_total": ("pixel_llm.calls.recovered", "{call}"),
    "pixel_llm_attempts_total": ("pixel_llm.attempts", "{attempt}"),
    "pixel_llm_attempt_errors_total": ("pixel_llm.attempt.errors", "{attempt}"),
    "pixel_llm_retries_total": ("pixel_llm.retries", "{retry}"),
    "pixel_llm_errors_total": ("pixel_llm.errors", "{error}"),
    "pixel_llm_refusals_total": ("pixel_llm.refusals", "{call}"),
    "pixel_llm_fallbacks_total": ("pixel_llm.fallbacks", "{call}"),
    "pixel_llm_cache_requests_total": ("pixel_llm.cache.requests", "{request}"),
    "pixel_llm_events_total": ("pixel_llm.events", "{event}"),
    "pixel_llm_circuit_state": ("pixel_llm.circuit.state", "{circuit}"),
    "pixel_llm_circuit_shadow_state": ("pixel_llm.circuit.shadow_state", "{circuit}"),
    "pixel_llm_bulkhead_in_use": ("pixel_llm.bulkhead.in_use", "{call}"),
    "pixel_llm_bulkhead_limit": ("pixel_llm.bulkhead.limit", "{call}"),
    "pixel_llm_bulkhead_waiting": ("pixel_llm.bulkhead.waiting", "{call}"),
    "pixel_llm_bulkhead_max_waiting": ("pixel_llm.bulkhead.max_waiting", "{call}"),
    "pixel_llm_rate_limit_started": ("pixel_llm.rate_limit.started", "{call}"),
    "pixel_llm_rate_limit_max_calls": ("pixel_llm.rate_limit.max_calls", "{call}"),
    "pixel_llm_rate_limit_waiting": ("pixel_llm.rate_limit.waiting", "{call}"),
    "pixel_llm_retry_budget_ratio": ("pixel_llm.retry_budget", "1"),
    "pixel_llm_abandoned_threads": ("pixel_llm.abandoned_threads", "{thread}"),
    "pixel_llm_abandoned_threads_limit": ("pixel_llm.abandoned_threads.limit", "{thread}"),
    "pixel_llm_last_error_timestamp_seconds": ("pixel_llm.last_error.timestamp", "s"),
    "pixel_llm_deadline_seconds": ("pixel_llm.deadline", "s"),
    "pixel_llm_attempt_timeout_seconds": ("pixel_llm.attempt.timeout", "s"),
}

#: Gives the observations of one instrument.
_Callback = Callable[[CallbackOptions], Iterable[Observation]]


def observe(meter: Meter, watched: Watched) -> None:
    """Have *meter* ask for what *watched* policies know whenever it collects."""
    for of_policy in POLICY_FAMILIES:
        _create(meter, of_policy, _of_policies(of_policy, watched))
    for family in FAMILIES:
        if family.kind is not Kind.HISTOGRAM:
            _create(meter, family, _of_targets(family, watched))


def _create(meter: Meter, family: Family[Snapshot] | Family[TargetSnapshot], callback: _Callback) -> None:
    name, unit = NAMES[family.name]
    is_counter = family.kind is Kind.COUNTER
    create = meter.create_observable_counter if is_counter else meter.create_observable_gauge
    create(name, [callback], unit=unit, description=family.help)


def _of_policies(family: Family[Snapshot], watched: Watched) -> _Callback:
    def observations(options: CallbackOptions) -> Iterable[Observation]:
        for policy in watched.snapshots(family.name):
            for values, number in family.read(policy):
                yield Observation(number, {"profile": policy.profile, **_labelled(family, values)})

    return observations


def _of_targets(family: Family[TargetSnapshot], watched: Watched) -> _Callback:
    def observations(options: CallbackOptions) -> Iterable[Observation]:
        for policy in watched.snapshots(family.name):
            for name, target in policy.targets.items():
                for values, number in family.read(target):
                    yield Observation(number, {"profile": policy.profile, "target": name, **_labelled(family, values)})

    return observations


def _labelled(family: Family[Snapshot] | Family[TargetSnapshot], values: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(family.labels, values, strict=True))
