"""The `bulkhead` section: how many calls may be under way at once."""

from __future__ import annotations

from dataclasses import dataclass

from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.kinds import Duration, Integer, Number
from pixel_llm.policy.settings import Section, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveConfig:
    """
    A limit that finds out by itself how many calls at once the target can take.

    ``slow_call_duration`` is seconds. Immutable, safe to share between threads.
    """

    min_limit: int = setting(Integer(1, 100_000), "The limit never sinks below it.", default=1, example=1)
    initial_limit: int = setting(
        Integer(1, 100_000), "The limit to begin with, but within min_limit and max_concurrent.", default=4, example=4
    )
    backoff_ratio: float = setting(
        Number(0.1, 0.99),
        "What the limit is multiplied by after a sign of overload: a timeout, 429, 503, memory that ran out. "
        "Successes while all slots are in use let it grow again, by one for as many calls as it allows at once.",
        default=0.9,
        example=0.9,
    )
    slow_call_duration: float | None = setting(
        Duration(), "A call that took longer is a sign of overload too.", default=None, example="20s"
    )

    def in_words(self) -> str:
        """What it means, in a few words."""
        slow = "" if self.slow_call_duration is None else f" or calls over {format_duration(self.slow_call_duration)}"
        return f"adaptive from {self.min_limit}, × {self.backoff_ratio:g} at overload{slow}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkheadConfig:
    """
    How many calls may be under way at once. Immutable, safe to share between threads.

    ``max_wait`` is seconds, None is as long as the deadline allows.
    """

    max_concurrent: int = setting(Integer(1, 100_000), "Attempts that may be under way at once.", default=10, example=4)
    max_waiting: int = setting(
        Integer(0, 100_000),
        "Attempts that may wait for a slot, first come, first served; one more is refused at once.",
        default=0,
        example=16,
    )
    max_wait: float | None = setting(
        Duration(),
        "How long an attempt may wait for a slot; without it, as long as the deadline allows.",
        default=None,
        example="5s",
    )
    adaptive: AdaptiveConfig | None = setting(
        Section(AdaptiveConfig),
        "Lets the limit follow what the target can take; max_concurrent is then the most it can become.",
        default=None,
        example={"min_limit": 1, "initial_limit": 4},
    )

    def in_words(self) -> str:
        """What it means, in a few words."""
        adaptive = "" if self.adaptive is None else f" ({self.adaptive.in_words()})"
        if self.max_waiting == 0:
            return f"{self.max_concurrent} at once{adaptive}; none waits"
        long = "" if self.max_wait is None else f" up to {format_duration(self.max_wait)}"
        return f"{self.max_concurrent} at once{adaptive}; {self.max_waiting} may wait{long}"
