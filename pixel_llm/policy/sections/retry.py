"""The `retry` section: how often to try again, and how long to wait in between."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.kinds import Choice, Duration, Integer, Number
from pixel_llm.policy.sections.matching import RETRIED_BY_DEFAULT, RETRYABLE_ERROR_NAMES, ErrorMatcher
from pixel_llm.policy.settings import setting


class RetryStrategy(StrEnum):
    """How the wait grows from attempt to attempt."""

    EXPONENTIAL_BACKOFF = "exponential_backoff"
    LINEAR_BACKOFF = "linear_backoff"
    FIXED_DELAY = "fixed_delay"
    IMMEDIATE = "immediate"


class Jitter(StrEnum):
    """How chance spreads the waits, so that clients which failed together do not return together."""

    FULL = "full"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryConfig:
    """
    How a call is tried again.

    Waits, in seconds, after attempt n counted from 0, before jitter:
    exponential ``initial_delay · backoff_multiplier^n``, linear ``initial_delay · (n+1)``,
    fixed ``initial_delay``, immediate 0; never more than ``max_delay``. Full jitter draws
    evenly between 0 and that (AWS Architecture Blog, "Exponential Backoff and Jitter").
    Immutable, safe to share between threads.
    """

    strategy: RetryStrategy = setting(
        Choice(RetryStrategy),
        "How the wait grows: exponential_backoff multiplies it, linear_backoff adds initial_delay each time, "
        "fixed_delay keeps it, immediate does not wait.",
        default=RetryStrategy.EXPONENTIAL_BACKOFF,
        example="exponential_backoff",
    )
    max_attempts: int = setting(
        Integer(1, 100), "Calls in all, the first one included; 1 means no retry.", default=3, example=3
    )
    initial_delay: float = setting(Duration(may_be_zero=True), "The first wait.", default=1.0, example="1s")
    max_delay: float = setting(
        Duration(may_be_zero=True),
        "No wait is longer, except where the server's Retry-After asks for it.",
        default=60.0,
        example="30s",
    )
    backoff_multiplier: float = setting(
        Number(1, 100), "What exponential_backoff multiplies the wait by after each attempt.", default=2.0, example=2
    )
    jitter: Jitter = setting(
        Choice(Jitter),
        "full draws each wait evenly between 0 and its computed length; none waits exactly that long.",
        default=Jitter.FULL,
        example="full",
    )
    retry_on: ErrorMatcher = setting(
        RETRYABLE_ERROR_NAMES,
        "The errors that are tried again, by category, code or HTTP status. A category stands for those of its errors "
        "that may go away; a code or a status for just that error. The list replaces the default.",
        default=RETRIED_BY_DEFAULT,
        example=["TRANSIENT", "THROTTLED", "ERR_API_MODEL_NOT_FOUND"],
    )
    retry_after_max: float = setting(
        Duration(may_be_zero=True),
        "The longest Retry-After that is waited for; a server that asks for more fails the call at once.",
        default=60.0,
        example="60s",
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "jitter", _as_jitter(self.jitter))

    def ceiling(self, attempt: int) -> float:
        """The longest wait in seconds, before any Retry-After, after attempt *attempt*, counted from 0."""
        match self.strategy:
            case RetryStrategy.IMMEDIATE:
                return 0.0
            case RetryStrategy.FIXED_DELAY:
                delay = self.initial_delay
            case RetryStrategy.LINEAR_BACKOFF:
                delay = self.initial_delay * (attempt + 1)
            case RetryStrategy.EXPONENTIAL_BACKOFF:
                delay = self.initial_delay * self.backoff_multiplier ** min(attempt, 64)
        return min(delay, self.max_delay)

    def in_words(self) -> str:
        """What it means, in a few words."""
        if self.max_attempts == 1:
            return "1 attempt, no retry"
        waits = "no waits"
        if self.strategy is not RetryStrategy.IMMEDIATE:
            first, cap = format_duration(self.initial_delay), format_duration(self.max_delay)
            growth = {
                RetryStrategy.EXPONENTIAL_BACKOFF: f", then × {self.backoff_multiplier:g} up to {cap}",
                RetryStrategy.LINEAR_BACKOFF: f", then {first} more each time up to {cap}",
                RetryStrategy.FIXED_DELAY: "",
            }[self.strategy]
            waits = f"waits {first}{growth}{', with full jitter' if self.jitter is Jitter.FULL else ''}"
        retried = "" if self.retry_on == RETRIED_BY_DEFAULT else f", for {', '.join(self.retry_on.names())}"
        return f"{self.max_attempts} attempts in all{retried}; {waits}"

    def calculate_delay(self, attempt: int) -> float:
        """The wait in seconds after attempt *attempt*, counted from 0, jitter included."""
        ceiling = self.ceiling(attempt)
        return random.uniform(0.0, ceiling) if self.jitter is Jitter.FULL else ceiling  # noqa: S311 - no secret


def _as_jitter(value: object) -> Jitter:
    """In Python, ``jitter=True`` means full, as other libraries have it."""
    if isinstance(value, bool):
        return Jitter.FULL if value else Jitter.NONE
    return Jitter(str(value))
