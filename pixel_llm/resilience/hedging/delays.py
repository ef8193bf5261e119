"""
When an attempt gets company: after a fixed delay, or after a quantile of what attempts took lately.

A second request beside one that takes unusually long cuts the tail of the latencies, at the price of a few
per cent more load: Dean and Barroso, "The Tail at Scale", CACM 56 (2), 2013, which sends it when the 95th
percentile has passed. gRPC A6 calls the same a hedging policy.
"""

from __future__ import annotations

import threading
from math import inf

from pixel_llm.policy import HedgeConfig
from pixel_llm.resilience.clock import Clock
from pixel_llm.resilience.counters import BOUNDS, Counters, Histogram

#: Seconds for which a computed quantile is good.
_GOOD_FOR = 1.0

#: The counters where the delay is fixed, and nothing is counted: they would be the larger part of a stack's memory.
_UNUSED = Counters()
_NOTHING = _UNUSED.latency().counts


class Hedging:
    """
    A compiled `hedge` section. Safe for concurrent use.

    With a quantile it looks at the latest attempts: at least ``min_samples`` of them, at most twice as many
    and those of the last second.

    What is measured is the time from the beginning of the first attempt to the value, whichever attempt gave
    it. That is no shorter than the delay unless the first attempt was, so the share of attempts that end
    within the delay is measured as it would be without hedges, and hedging doesn't shorten its own delay.

    Args:
        config: Delays in seconds.
        clock: Where time comes from.
    """

    def __init__(self, config: HedgeConfig, *, clock: Clock) -> None:
        self.config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._latencies = _UNUSED if config.quantile is None else Counters()
        # The counts before which nothing is looked at any more, and those that come into their place.
        self._base = self._mark = _NOTHING
        self._quantile = inf
        self._good_until = -inf

    def delay(self) -> float:
        """Seconds after which another attempt is to be sent; inf while too little is known."""
        config = self.config
        if config.delay is not None:
            return config.delay
        if self._clock.monotonic() >= self._good_until:
            with self._lock:
                self._look()
        return self._quantile if self._quantile == inf else min(max(self._quantile, config.min_delay), config.max_delay)

    def record(self, elapsed: float) -> None:
        """Take note that *elapsed* seconds after its first attempt began there was a value."""
        if self.config.quantile is not None:
            self._latencies.record_success(elapsed)

    def _look(self) -> None:
        counts, enough = self._latencies.latency().counts, self.config.min_samples
        latest = Histogram(BOUNDS, _without(counts, self._base))
        self._good_until = self._clock.monotonic() + _GOOD_FOR
        if latest.count < enough:
            return
        quantile = latest.quantile(self.config.quantile or 1.0)
        self._quantile = inf if quantile is None else quantile
        if sum(_without(counts, self._mark)) >= enough:
            self._base, self._mark = self._mark, counts


def _without(counts: tuple[int, ...], base: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(count - before for count, before in zip(counts, base, strict=True))
