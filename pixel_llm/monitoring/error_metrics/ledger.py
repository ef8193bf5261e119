"""The books of error metrics: what was recorded, added up. One thread at a time; see :class:`ErrorMetrics`."""

from __future__ import annotations

from collections import Counter, deque
from types import MappingProxyType

from pixel_llm.monitoring.error_metrics.latencies import Latencies
from pixel_llm.monitoring.error_metrics.points import MetricPoint, MetricType
from pixel_llm.monitoring.error_metrics.rolling_counter import RollingCounter
from pixel_llm.monitoring.error_metrics.summaries import (
    CircuitBreakerSummary,
    ErrorSummary,
    FallbackSummary,
    RetrySummary,
)
from pixel_llm.resilience import CircuitState

#: Of names (types, codes, targets, steps, breakers) so many are told apart; the others are counted under *OTHER*.
MAX_NAMES = 500
OTHER = "other"


class Names(Counter[str]):
    """Counts by name, of which there is a bounded number."""

    def count(self, name: str) -> None:
        """Count *name* once more."""
        self[bounded(name, self)] += 1

    def frozen(self) -> MappingProxyType[str, int]:
        """The counts, as they are now."""
        return MappingProxyType(dict(self))


def bounded(name: str, known: dict[str, int] | dict[str, Circuit]) -> str:
    """*name*, or what stands in its place where one more would be one too many."""
    return name if name in known or len(known) < MAX_NAMES else OTHER


class Circuit:
    """What one breaker has done."""

    __slots__ = ("changed", "entered", "open_seconds", "state", "transitions")

    def __init__(self, state: CircuitState) -> None:
        self.state = state
        self.transitions = 0
        self.entered: Counter[CircuitState] = Counter()
        self.open_seconds = 0.0
        self.changed = 0.0


class Ledger:
    """
    The books.

    Args:
        history: Points that are kept of each type.
    """

    def __init__(self, history: int) -> None:
        self.history = {kind: deque[MetricPoint](maxlen=history) for kind in MetricType}
        self.errors = self.successes = 0
        self.recovered = self.exhausted = 0
        self.retries, self.retry_delay = Names(), 0.0
        self.error_types, self.error_codes, self.error_targets = Names(), Names(), Names()
        self.steps = Names()
        self.cache_hits = self.cache_misses = 0
        self.circuits: dict[str, Circuit] = {}
        self.latencies = Latencies()
        self.recent_errors, self.recent_successes = RollingCounter(), RollingCounter()
        #: Successes of watched policies, which are only known when somebody asks.
        self.watched_successes = RollingCounter()

    def keep(self, point: MetricPoint) -> None:
        """Add *point* to its history."""
        self.history[point.metric_type].append(point)

    def error(self, now: float, kind: str, code: str, target: str, attempts: int) -> None:
        """A call failed."""
        self.errors += 1
        self.exhausted += attempts > 1
        self.error_types.count(kind)
        self.error_codes.count(code)
        self.error_targets.count(target)
        self.recent_errors.add(now)

    def success(self, now: float, attempts: int) -> None:
        """A call succeeded."""
        self.successes += 1
        self.recovered += attempts > 1
        self.recent_successes.add(now)

    def recovery(self) -> None:
        """A call of a watched stack, which counts its successes itself, succeeded after failed attempts."""
        self.recovered += 1

    def retry(self, delay: float, target: str) -> None:
        """A call is tried again."""
        self.retries.count(target)
        self.retry_delay += delay

    def fallback(self, step: str, served: bool) -> None:
        """A fallback step served, or could not."""
        if step == "cache":
            self.cache_hits += served
            self.cache_misses += not served
        if served:
            self.steps.count(step)

    def circuit(self, now: float, name: str, new: CircuitState, old: CircuitState) -> None:
        """A breaker changed its state."""
        name = bounded(name, self.circuits)
        circuit = self.circuits.get(name)
        if circuit is None:
            circuit = self.circuits[name] = Circuit(old)
        if circuit.state is CircuitState.OPEN and circuit.transitions:
            circuit.open_seconds += now - circuit.changed
        circuit.state, circuit.changed = new, now
        circuit.transitions += 1
        circuit.entered[new] += 1

    def watched(self, since: float, now: float, counts: list[int]) -> None:
        """Watched stacks have counted so many successes, by bucket, from *since* to *now*."""
        number = sum(counts)
        self.successes += number
        self.watched_successes.add_evenly(since, now, number)
        self.latencies.add_counts(counts)

    def success_rate(self, window: float, now: float) -> float:
        """The share of successes within the last *window* seconds; 1 if there was nothing."""
        errors = self.recent_errors.count(window, now)
        successes = self.recent_successes.count(window, now) + self.watched_successes.count(window, now)
        return successes / (successes + errors) if successes + errors else 1.0

    def error_summary(self) -> ErrorSummary:
        """Calls that failed."""
        return ErrorSummary(
            total=self.errors,
            by_type=self.error_types.frozen(),
            by_code=self.error_codes.frozen(),
            by_target=self.error_targets.frozen(),
        )

    def retry_summary(self) -> RetrySummary:
        """Retries."""
        return RetrySummary(
            total=self.retries.total(),
            recovered=self.recovered,
            exhausted=self.exhausted,
            total_delay_seconds=self.retry_delay,
            by_target=self.retries.frozen(),
        )

    def circuit_summary(self, name: str, now: float) -> CircuitBreakerSummary:
        """One breaker, which must be known."""
        circuit = self.circuits[name]
        still = now - circuit.changed if circuit.state is CircuitState.OPEN and circuit.transitions else 0.0
        return CircuitBreakerSummary(
            name=name,
            current_state=circuit.state,
            transitions=circuit.transitions,
            total_open_seconds=circuit.open_seconds + still,
            opens=circuit.entered[CircuitState.OPEN],
            closes=circuit.entered[CircuitState.CLOSED],
            half_opens=circuit.entered[CircuitState.HALF_OPEN],
        )

    def fallback_summary(self) -> FallbackSummary:
        """Fallbacks."""
        looked = self.cache_hits + self.cache_misses
        return FallbackSummary(
            total=self.steps.total(),
            by_step=self.steps.frozen(),
            cache_hits=self.cache_hits,
            cache_misses=self.cache_misses,
            cache_hit_rate=self.cache_hits / looked if looked else 0.0,
        )
