"""When a circuit breaker opens at the latest, if only failures come. ``docs/explanation/bounds.md`` derives it."""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Iterator, Sequence

from pixel_llm.policy.sections.circuit_breaker import WINDOW_STEPS, CircuitBreakerConfig

#: Two moments this close, in seconds, may fall into either of two steps of a window.
_GRAIN = 1e-9

#: The earliest and the latest moment of what happens for certain, in seconds: with jitter they differ.
Span = tuple[float, float]


def opens_after(
    breaker: CircuitBreakerConfig, spans: Sequence[Span], rate: float, *, slow: bool = False
) -> float | None:
    """
    Seconds from the start of an outage until *breaker*, which measures, is open at the latest.

    Calls begin at 1/rate, 2/rate, … seconds, and each brings a failure that counts within every one of *spans*
    after its beginning; *slow* if all of these are slow calls. What there was before the outage is unknown, and
    there may be further failures. None if the breaker need not open.
    """
    moments = [latest for _, latest in spans]
    times: list[float | None] = [nth(moments, rate, needed) for needed in failures_needed(breaker, slow=slow)]
    period = breaker.measured_over.period
    if period is not None and (breaker.failure_rate is not None or (slow and breaker.slow_call_rate is not None)):
        times.append(_fills_window(spans, rate, period, breaker.minimum_calls))
    return min((time for time in times if time is not None), default=None)


def failures_needed(breaker: CircuitBreakerConfig, *, slow: bool = False) -> Iterator[int]:
    """
    For each condition that a number of failures meets for certain, whatever there was before them: that number.

    A window of the last N calls may be full of successes. Each failure takes the place of one, so it takes
    the smallest k with k/N ≥ rate; but never fewer than the minimum of calls, as the window may be empty.
    """
    if breaker.failure_threshold is not None:
        yield breaker.failure_threshold
    window = breaker.measured_over
    if window.period is None:
        for share in (breaker.failure_rate, breaker.slow_call_rate if slow else None):
            if share is not None:
                yield max(breaker.minimum_calls, share_of(window.size, share))


def share_of(calls: int, share: float) -> int:
    """The smallest number of *calls* that is at least so large a *share* of them."""
    return bisect.bisect_left(range(1, calls + 1), share, key=lambda number: number / calls) + 1


def nth(moments: Sequence[float], rate: float, number: int) -> float:
    """When the failure of this number comes, counted from 1."""
    merged = heapq.merge(*(_shifted(moment, rate) for moment in moments))
    return next(itertools.islice(merged, number - 1, None))[0]


def _fills_window(spans: Sequence[Span], rate: float, period: float, minimum: int) -> float | None:
    """
    When a window of the last *period* seconds at the latest holds *minimum* failures, and nothing else.

    Any number of calls may have succeeded right before the outage; after *period* the last of them is forgotten.
    The next failure that fills the window then opens the breaker. None if failures come too slowly to be sure of one.
    """
    latest = 0.0
    last: float | None = None
    for earliest, time in _filling(spans, rate, period, minimum):
        if earliest == last:
            continue
        if earliest >= period:
            # The outage may begin at any moment between two calls: at worst the last success is forgotten right after
            # the failure before this one.
            latest = max(latest, time if last is None or last < period else period + time - last)
            if last is not None and last >= period + 1 / rate:
                return latest
        last = earliest
    return None


def _filling(spans: Sequence[Span], rate: float, period: float, minimum: int) -> Iterator[Span]:
    """
    Spans within which some failure is, for certain, at least the *minimum*-th in the window; none if none is.

    Both ends never go back.
    """
    kept = period * (1 - 1 / WINDOW_STEPS) - _GRAIN  # a failure is kept for a period less one step at least
    regular = max(latest for _, latest in spans) + 2 / rate + kept  # from here on, every 1/rate seconds are alike
    window: list[float] = []  # a heap: since when failures may be in it that are in it for certain
    newest = 0.0
    found = False
    failures = heapq.merge(*(_shifted(latest, rate, latest - earliest) for earliest, latest in spans))
    while True:  # they have no end
        time, uncertain = next(failures)
        heapq.heappush(window, time - uncertain)
        newest = max(newest, time - uncertain)
        while window and window[0] < time - kept:
            heapq.heappop(window)
        if len(window) >= minimum:
            found = True
            yield newest, time
        elif not found and time > regular:
            return


def _shifted(moment: float, rate: float, uncertain: float = 0.0) -> Iterator[Span]:
    """In each call, the *moment* after its beginning, and *uncertain* as it is."""
    return ((call / rate + moment, uncertain) for call in itertools.count(1))
