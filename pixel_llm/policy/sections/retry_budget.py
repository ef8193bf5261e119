"""The `retry_budgets` section, and `retry.budget`: how many retries there may be in all, whatever fails."""

from __future__ import annotations

from dataclasses import dataclass

from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.kinds import Duration, Integer, Number
from pixel_llm.policy.settings import setting

#: The name of a budget that several targets share.
BUDGET_PATTERN = r"^[a-z][a-z0-9_-]*$"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudgetConfig:
    """
    How many retries there may be within any window, for all calls together.

    At most ``max(min_retries, ratio · calls)`` of them, where the calls are those of the same window. ``window`` is
    seconds. Immutable, safe to share between threads.
    """

    ratio: float = setting(
        Number(0, 100),
        "Retries for each call: 0.2 lets every fifth call be tried again once. Calls are counted once each, however "
        "often they are tried.",
        default=0.2,
        example=0.2,
    )
    window: float = setting(Duration(), "The time over which calls and retries count.", default=10.0, example="10s")
    min_retries: int = setting(
        Integer(0, 1_000_000),
        "Retries that a window allows in any case, so that a target with few calls may retry too.",
        default=10,
        example=10,
    )

    @property
    def allows_none(self) -> bool:
        """True if no retry is ever allowed."""
        return self.ratio == 0 and self.min_retries == 0

    def in_words(self) -> str:
        """What it means, in a few words."""
        floor = f", or {self.min_retries} if that is more" if self.min_retries else ""
        return f"retries for at most {100 * self.ratio:g}% of the calls within {format_duration(self.window)}{floor}"
