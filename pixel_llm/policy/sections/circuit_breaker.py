"""The `circuit_breaker` section: when to stop calling something that fails."""

from __future__ import annotations

from dataclasses import dataclass

from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.kinds import Duration, Integer
from pixel_llm.policy.sections.matching import COUNTED_BY_DEFAULT, ERROR_NAMES, ErrorMatcher
from pixel_llm.policy.settings import setting
from pixel_llm.policy.showing import count


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreakerConfig:
    """
    When calls are refused without being tried. Immutable, safe to share between threads.

    ``cooldown`` is seconds.
    """

    failure_threshold: int = setting(
        Integer(1, 10_000), "Failures in a row that open the breaker.", default=5, example=5
    )
    cooldown: float = setting(
        Duration(),
        "How long an open breaker refuses every call before it lets trial calls through.",
        default=60.0,
        example="60s",
    )
    success_threshold: int = setting(
        Integer(1, 10_000), "Trial calls in a row that must succeed to close it again.", default=2, example=2
    )
    half_open_max_calls: int = setting(
        Integer(1, 10_000), "Trial calls that may be under way at once.", default=1, example=1
    )
    count: ErrorMatcher = setting(
        ERROR_NAMES,
        "The errors that count as failures, by category, code or HTTP status; all others are neither failure nor "
        "success. The list replaces the default.",
        default=COUNTED_BY_DEFAULT,
        example=["TRANSIENT", "UNKNOWN", "429"],
    )

    def in_words(self) -> str:
        """What it means, in a few words."""
        counted = "" if self.count == COUNTED_BY_DEFAULT else f" of {', '.join(self.count.names())}"
        return (
            f"opens after {count(self.failure_threshold, 'failure')} in a row{counted}, "
            f"for {format_duration(self.cooldown)}; "
            f"closes after {count(self.success_threshold, 'trial call')}, {self.half_open_max_calls} at once"
        )
