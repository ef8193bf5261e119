"""Error metrics: record by hand, or have policies watched; ask for summaries, rates and histories."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from types import MappingProxyType

from pixel_llm.errors import ErrorCode, ValidationError, classify_error
from pixel_llm.events import Event
from pixel_llm.monitoring.error_metrics.books import Books
from pixel_llm.monitoring.error_metrics.callbacks import Callbacks
from pixel_llm.monitoring.error_metrics.checks import checked_attempts, checked_name, checked_seconds
from pixel_llm.monitoring.error_metrics.events import record_event
from pixel_llm.monitoring.error_metrics.ledger import Ledger
from pixel_llm.monitoring.error_metrics.points import Callback, MetricPoint, MetricType
from pixel_llm.monitoring.error_metrics.rolling_counter import checked_window
from pixel_llm.monitoring.error_metrics.summaries import (
    CircuitBreakerSummary,
    ErrorSummary,
    FallbackSummary,
    FullSummary,
    LatencyStats,
    RetrySummary,
)
from pixel_llm.monitoring.error_metrics.watched import Watched
from pixel_llm.monitoring.sources import HasSnapshot
from pixel_llm.monitoring.tally import UNKNOWN_CODE
from pixel_llm.policy.suggestions import one_of
from pixel_llm.resilience import SYSTEM_CLOCK, CircuitState, Clock
from pixel_llm.resilience.threads.forking import forget_after_fork

#: The window, in seconds, of the rates in a full summary.
_MINUTE = 60.0


class ErrorMetrics:
    """
    Counts errors, successes, retries, breakers, fallbacks and latencies. Safe for concurrent use, and exact.

    Recording never waits for a lock, so it may happen anywhere: what comes while another thread is at the books is
    entered by that one. Memory is bounded: names beyond 500 of a kind are counted as ``other``, longer ones than 200
    characters are cut, histories keep the last points only.

    It is a listener: ``policies.add_listener(metrics)`` records what is not a clean success. :meth:`watch` does that,
    and reads successes and latencies from the stacks' own counters, too. Either may be done twice.

    Args:
        history: Points that are kept of each type.
        clock: Where durations come from.
        now: Gives the time of day, in seconds since 1970.
    """

    def __init__(
        self, *, history: int = 1000, clock: Clock = SYSTEM_CLOCK, now: Callable[[], float] = time.time
    ) -> None:
        if isinstance(history, bool) or not isinstance(history, int) or history < 0:
            raise ValidationError(f"history must be a whole number from 0 on (got {history!r})")
        self._clock = clock
        self._now = now
        self._callbacks = Callbacks()
        self._books = Books(history, self._look)
        self._watched: tuple[Watched, ...] = ()
        self._since = now()
        forget_after_fork(self)

    def __call__(self, event: Event) -> None:
        """Record *event*, as a listener of policies."""
        record_event(self, event)

    def watch(self, policies: HasSnapshot) -> None:
        """
        Record what happens to the calls of *policies* from now on, successes and latencies included.

        A success tells nobody: stacks count it, and their counters are read when somebody asks. So the successes
        between two looks count in rates as if they had come evenly. The policies aren't kept alive by this; what
        they count after the last look is lost with them.

        Raises:
            ValidationError: If that is something else.
        """
        add_listener = getattr(policies, "add_listener", None)
        if add_listener is None or not callable(getattr(policies, "snapshot", None)):
            raise ValidationError(f"watch() takes what load_policies() gives (got {policies!r})")
        watched = Watched(policies, self._clock.monotonic())

        def begin(ledger: Ledger) -> bool:
            if any(known.is_of(policies) for known in self._watched):
                return False
            self._watched = (*self._watched, watched)
            return True

        if self._books.ask(begin):
            add_listener(self)

    def record_error(
        self,
        error: BaseException | str,
        *,
        error_code: ErrorCode | str | None = None,
        target: str = "",
        attempts: int = 1,
    ) -> None:
        """
        Record a call that failed.

        Args:
            error: The exception, or the name of its type.
            error_code: Its code, which may be one of your own; by default the one that the classifier finds.
            target: What was called.
            attempts: How often it was tried, the first time included; 0 if it was refused before.

        Raises:
            ValidationError: If a name is no text, or *attempts* no number of them.
        """
        attempts, target = checked_attempts(attempts), checked_name(target, "target")
        if error_code is None and isinstance(error, Exception):
            error_code = classify_error(error).error_code
        kind = checked_name(error, "error") if isinstance(error, str) else type(error).__name__
        code = UNKNOWN_CODE if error_code is None else checked_name(str(error_code), "error_code")
        name = kind if error_code is None else code
        now = self._clock.monotonic()
        self._record(
            lambda ledger: ledger.error(now, kind, code, target, attempts), MetricType.ERROR, name, 1.0, target
        )

    def record_success(self, *, target: str = "", attempts: int = 1, latency: float | None = None) -> None:
        """
        Record a call that succeeded, and how long it took, if that is given.

        Raises:
            ValidationError: If *latency* is none, *target* no text, or *attempts* no number of them.
        """
        attempts, target = checked_attempts(attempts), checked_name(target, "target")
        seconds = None if latency is None else checked_seconds(latency, "a latency")
        now = self._clock.monotonic()
        self._record(lambda ledger: ledger.success(now, attempts), MetricType.SUCCESS, "", 1.0, target)
        if seconds is not None:
            self.record_latency(seconds, target=target)

    def record_retry(self, *, delay: float = 0.0, target: str = "") -> None:
        """
        Record that a call is tried again after *delay* seconds.

        Raises:
            ValidationError: If that is no delay, or *target* no text.
        """
        seconds, target = checked_seconds(delay, "a delay"), checked_name(target, "target")
        self._record(lambda ledger: ledger.retry(seconds, target), MetricType.RETRY, "", seconds, target)

    def record_recovery(self) -> None:
        """Record that a call, whose success is counted elsewhere, succeeded after failed attempts."""
        self._books.enter(Ledger.recovery)

    def record_circuit_state_change(
        self,
        name: str,
        new_state: CircuitState | str,
        old_state: CircuitState | str = CircuitState.CLOSED,
    ) -> None:
        """
        Record that the breaker *name* changed its state.

        Raises:
            ValidationError: If there is no such state, or *name* is no text.
        """
        name = checked_name(name, "the name of a circuit breaker")
        new, old = _state(new_state), _state(old_state)
        now, kind = self._clock.monotonic(), MetricType.CIRCUIT_STATE_CHANGE
        self._record(lambda ledger: ledger.circuit(now, name, new, old), kind, new.value, 1.0, name)

    def record_fallback_activation(self, step: str, *, target: str = "", served: bool = True) -> None:
        """
        Record that a fallback *step*, such as ``cache``, served in place of a call; or that it could not.

        Raises:
            ValidationError: If a name is no text.
        """
        step, target = checked_name(step, "step"), checked_name(target, "target")
        if served:
            kind = MetricType.FALLBACK_ACTIVATION
            self._record(lambda ledger: ledger.fallback(step, True), kind, step, 1.0, target)
        else:
            self._books.enter(lambda ledger: ledger.fallback(step, False))

    def record_latency(self, seconds: float, *, target: str = "") -> None:
        """
        Record how long a call took.

        Raises:
            ValidationError: If that is no number of seconds from 0 on, or *target* no text.
        """
        value, target = checked_seconds(seconds, "a latency"), checked_name(target, "target")
        self._record(lambda ledger: ledger.latencies.add(value), MetricType.LATENCY, "", value, target)

    def get_error_summary(self) -> ErrorSummary:
        """Calls that failed."""
        return self._books.ask(Ledger.error_summary)

    def get_retry_summary(self) -> RetrySummary:
        """Retries."""
        return self._books.ask(Ledger.retry_summary)

    def get_circuit_breaker_summary(self, name: str) -> CircuitBreakerSummary | None:
        """
        What the breaker *name* has done; None if no change of it is known.

        So it has been closed all the time, there is none of that name, or it is one beyond the 500 that are told
        apart: those are summed up as ``other``.
        """
        known = checked_name(name, "the name of a circuit breaker")

        def summary(ledger: Ledger) -> CircuitBreakerSummary | None:
            return ledger.circuit_summary(known, self._clock.monotonic()) if known in ledger.circuits else None

        return self._books.ask(summary)

    def get_fallback_summary(self) -> FallbackSummary:
        """What served in place of calls."""
        return self._books.ask(Ledger.fallback_summary)

    def get_latency_stats(self) -> LatencyStats:
        """How long calls took."""
        return self._books.ask(lambda ledger: ledger.latencies.stats())

    def get_error_rate(self, window_seconds: float = _MINUTE) -> float:
        """The share of errors among the calls of the last *window_seconds* (1 to 3600); 0 if there were none."""
        return 1.0 - self.get_success_rate(window_seconds)

    def get_success_rate(self, window_seconds: float = _MINUTE) -> float:
        """
        The share of successes among the calls of the last *window_seconds* (1 to 3600); 1 if there were none.

        Raises:
            ValidationError: If the window is another.
        """
        window = checked_window(window_seconds)
        return self._books.ask(lambda ledger: ledger.success_rate(window, self._clock.monotonic()))

    def get_full_summary(self) -> FullSummary:
        """Everything, of one moment; rates are those of the last minute."""

        def summary(ledger: Ledger) -> FullSummary:
            now = self._clock.monotonic()
            success_rate = ledger.success_rate(_MINUTE, now)
            circuits = {name: ledger.circuit_summary(name, now) for name in ledger.circuits}
            return FullSummary(
                since=self._since,
                successes=ledger.successes,
                errors=ledger.error_summary(),
                success_rate=success_rate,
                error_rate=1.0 - success_rate,
                retries=ledger.retry_summary(),
                circuit_breakers=MappingProxyType(circuits),
                fallbacks=ledger.fallback_summary(),
                latency=ledger.latencies.stats(),
            )

        return self._books.ask(summary)

    def get_history(self, metric_type: MetricType | str | None = None, limit: int = 100) -> tuple[MetricPoint, ...]:
        """
        The last *limit* points of a type, or of all types, the oldest first.

        Raises:
            ValidationError: If there is no such type, or the limit is none.
        """
        wanted = None if metric_type is None else _metric_type(metric_type)
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
            raise ValidationError(f"limit must be a whole number from 0 on (got {limit!r})")
        kinds = list(MetricType) if wanted is None else [wanted]
        points = self._books.ask(lambda ledger: [point for kind in kinds for point in ledger.history[kind]])
        points.sort(key=lambda point: point.at)
        return tuple(points[len(points) - limit :] if limit < len(points) else points)

    def register_callback(self, callback: Callback, metric_type: MetricType | str | None = None) -> Callable[[], None]:
        """
        Have *callback* called with every point, or with those of one type.

        It runs in the thread that records, in the middle of a call, and must not block: to do something slow, put the
        point into a queue of yours, and do it in a thread of yours. One that raises is reported once, to the logger
        ``pixel_llm``, and the call goes on.

        Returns:
            A function that ends it.

        Raises:
            ValidationError: If that can't be called or is async, since nobody would await it, or there is no such type.
        """
        if not callable(callback) or inspect.iscoroutinefunction(callback):
            raise ValidationError(f"a callback must be a plain function that takes a point (got {callback!r})")
        return self._callbacks.add(callback, None if metric_type is None else _metric_type(metric_type))

    def reset(self) -> None:
        """Begin anew; callbacks stay, and policies are watched on."""
        self._books.begin_anew()
        self._since = self._now()

    def forget(self) -> None:
        """In a forked child: locks that a thread of the parent held are never given back."""
        self._books.forget()
        self._callbacks.forget()

    def _record(self, entry: Callable[[Ledger], None], kind: MetricType, name: str, value: float, target: str) -> None:
        point = MetricPoint(kind, self._now(), name, value, target)

        def enter(ledger: Ledger) -> None:
            entry(ledger)
            ledger.keep(point)

        self._books.enter(enter)
        self._callbacks.tell(point)

    def _look(self, ledger: Ledger) -> None:
        """Take over what watched stacks have counted."""
        now = self._clock.monotonic()
        for watched in self._watched:
            counts = watched.unseen()
            if counts:
                ledger.watched(watched.looked_at, now, counts)
            watched.looked_at = now
        self._watched = tuple(watched for watched in self._watched if not watched.is_gone)


def _state(state: CircuitState | str) -> CircuitState:
    try:
        return CircuitState(state)
    except ValueError:
        raise ValidationError(
            f"there is no state {state!r} of a circuit breaker; there are {one_of([*CircuitState])}"
        ) from None


def _metric_type(name: MetricType | str) -> MetricType:
    try:
        return MetricType(name)
    except ValueError:
        raise ValidationError(f"there is no metric type {name!r}; there are {one_of([*MetricType])}") from None


_process_wide = ErrorMetrics()


def get_metrics() -> ErrorMetrics:
    """The instance that the whole process shares."""
    return _process_wide
