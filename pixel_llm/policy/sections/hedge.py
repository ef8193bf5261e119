"""The `hedge` section: a second attempt beside one that takes unusually long."""

from __future__ import annotations

from dataclasses import dataclass

from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.kinds import Duration, Integer, Number
from pixel_llm.policy.settings import setting
from pixel_llm.policy.showing import count

#: The settings that only mean something beside `quantile`.
ONLY_WITH_QUANTILE = ("min_samples", "min_delay", "max_delay")


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeConfig:
    """
    When an attempt gets company: either after ``delay``, or after the ``quantile`` of what attempts took lately.

    Durations are seconds. Immutable, safe to share between threads.
    """

    delay: float | None = setting(
        Duration(), "How long an attempt may take before another one is sent beside it.", default=None, example="500ms"
    )
    quantile: float | None = setting(
        Number(0.5, 0.999),
        "In place of `delay`: the share of attempts, 0.5 to 0.999, that shall need no other one beside them. The "
        "delay is what this share of the target's latest attempts took.",
        default=None,
        example=0.95,
    )
    max_hedges: int = setting(
        Integer(1, 10), "How many attempts may be sent beside the first, one after each delay.", default=1, example=1
    )
    min_samples: int = setting(
        Integer(10, 100_000),
        "With `quantile`: attempts that must have succeeded before anything is sent beside one.",
        default=100,
        example=100,
    )
    min_delay: float = setting(Duration(), "With `quantile`: the delay is never shorter.", default=0.01, example="10ms")
    max_delay: float = setting(Duration(), "With `quantile`: the delay is never longer.", default=60.0, example="60s")

    @property
    def longest_delay(self) -> float:
        """The longest delay there can be, in seconds."""
        return self.max_delay if self.delay is None else self.delay

    @property
    def shortest_delay(self) -> float:
        """The shortest delay there can be, in seconds."""
        return self.min_delay if self.delay is None else self.delay

    def in_words(self) -> str:
        """What it means, in a few words."""
        more = count(self.max_hedges, "more attempt")
        if self.delay is not None:
            return f"{more} beside one that takes longer than {format_duration(self.delay)}"
        share, delays = 100 * (self.quantile or 0.0), (self.min_delay, self.max_delay)
        return (
            f"{more} beside one that takes longer than {share:g} % of the latest, "
            f"{' to '.join(map(format_duration, delays))}, once {self.min_samples} have succeeded"
        )
