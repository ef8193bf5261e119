"""The `retry` section: how often to try again, and how long to wait in between."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.kinds import Choice, Duration, Flag, Integer, NameOr, Number, RegisteredName, Text
from pixel_llm.policy.sections.matching import RETRIED_BY_DEFAULT, RETRYABLE_ERROR_NAMES, ErrorMatcher
from pixel_llm.policy.sections.retry_budget import BUDGET_PATTERN, RetryBudgetConfig
from pixel_llm.policy.settings import Section, setting


class RetryStrategy(StrEnum):
    """How the wait grows from attempt to attempt."""

    EXPONENTIAL_BACKOFF = "exponential_backoff"
    LINEAR_BACKOFF = "linear_backoff"
    FIXED_DELAY = "fixed_delay"
    IMMEDIATE = "immediate"


class Jitter(StrEnum):
    """
    How chance spreads the waits, so that clients which failed together do not return together.

    Of a computed wait w, NONE waits all, FULL ``rand(0, w)``, EQUAL ``w/2 + rand(0, w/2)``. DECORRELATED computes
    none: it waits ``min(max_delay, rand(initial_delay, 3 · previous wait))``, the first one being
    ``initial_delay``. Source: AWS Architecture Blog, "Exponential Backoff and Jitter", 2015.
    """

    FULL = "full"
    EQUAL = "equal"
    DECORRELATED = "decorrelated"
    NONE = "none"


#: By how much a decorrelated wait may exceed the one before it.
DECORRELATED_GROWTH = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryConfig:
    """
    How a call is tried again.

    Waits, in seconds, after attempt n counted from 0, before jitter:
    exponential ``initial_delay · backoff_multiplier^n``, linear ``initial_delay · (n+1)``,
    fixed ``initial_delay``, immediate 0; never more than ``max_delay``. :class:`Jitter` has the formulas of
    jitter. Immutable, safe to share between threads.
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
        "full draws each wait evenly between 0 and its computed length, equal between half of it and all of it; "
        "decorrelated draws between initial_delay and 3 × the wait before, up to max_delay; none waits exactly the "
        "computed length.",
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
    retry_on_result: str | None = setting(
        RegisteredName(),
        "A function, by the name it is registered under, that is given each result and answers whether it is no good: "
        "then the call is tried again, and when the attempts are used up it fails with ERR_RETRY_EXHAUSTED.",
        default=None,
        example="looks_empty",
    )
    retry_after_max: float = setting(
        Duration(may_be_zero=True),
        "The longest Retry-After that is waited for; a server that asks for more fails the call at once.",
        default=60.0,
        example="60s",
    )

    budget: RetryBudgetConfig | str | None = setting(
        NameOr(Text("the name of a retry budget", BUDGET_PATTERN), Section(RetryBudgetConfig)),
        "How many retries there may be in all: a budget of this target's own, or the name of one under retry_budgets "
        "that several targets share. When it is empty, calls that fail are not tried again.",
        default=None,
        example={"ratio": 0.2, "window": "10s", "min_retries": 10},
    )
    wait_for_breaker: bool = setting(
        Flag(),
        "Whether a call that the open circuit breaker refuses waits for the cooldown to end, where the deadline allows "
        "it. Such a wait is no attempt.",
        default=False,
        example=True,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "jitter", _as_jitter(self.jitter))

    @property
    def does_something(self) -> bool:
        """True unless the section changes nothing: one attempt, any result, no waiting."""
        return self.max_attempts > 1 or self.retry_on_result is not None or self.wait_for_breaker

    def ceiling(self, attempt: int) -> float:
        """The longest wait in seconds, before any Retry-After, after attempt *attempt*, counted from 0."""
        match self.strategy:
            case RetryStrategy.IMMEDIATE:
                return 0.0
            case _ if self.jitter is Jitter.DECORRELATED:
                delay = self.initial_delay * DECORRELATED_GROWTH ** min(attempt + 1, 64)
            case RetryStrategy.FIXED_DELAY:
                delay = self.initial_delay
            case RetryStrategy.LINEAR_BACKOFF:
                delay = self.initial_delay * (attempt + 1)
            case _:  # EXPONENTIAL_BACKOFF
                delay = self.initial_delay * self.backoff_multiplier ** min(attempt, 64)
        return min(delay, self.max_delay)

    def floor(self, attempt: int) -> float:
        """The shortest wait in seconds, before any Retry-After, after attempt *attempt*: what is not left to chance."""
        if self.strategy is RetryStrategy.IMMEDIATE:
            return 0.0
        match self.jitter:
            case Jitter.FULL:
                return 0.0
            case Jitter.EQUAL:
                return self.ceiling(attempt) / 2
            case Jitter.DECORRELATED:
                return min(self.initial_delay, self.max_delay)
            case _:  # NONE
                return self.ceiling(attempt)

    def draw(self, attempt: int, previous: float | None = None) -> float:
        """
        The wait in seconds after attempt *attempt*, counted from 0, jitter included.

        Args:
            attempt: The attempt that has failed.
            previous: The wait before it, as it was drawn, which decorrelated jitter builds on; None after the first.
        """
        if self.jitter is Jitter.DECORRELATED and self.strategy is not RetryStrategy.IMMEDIATE:
            longest = DECORRELATED_GROWTH * (self.initial_delay if previous is None else previous)
            return min(self.max_delay, random.uniform(self.initial_delay, longest))  # noqa: S311 - no secret
        shortest, longest = self.floor(attempt), self.ceiling(attempt)
        return longest if shortest == longest else shortest + random.uniform(0.0, longest - shortest)  # noqa: S311

    def calculate_delay(self, attempt: int) -> float:
        """
        The wait in seconds after attempt *attempt*, counted from 0, jitter included.

        Decorrelated jitter draws the waits before it as well, since each builds on the last.
        """
        if self.jitter is not Jitter.DECORRELATED:
            return self.draw(attempt)
        wait: float | None = None
        for number in range(attempt + 1):
            wait = self.draw(number, wait)
        return wait or 0.0

    def in_words(self) -> str:
        """What it means, in a few words."""
        if self.max_attempts == 1:
            return f"1 attempt, no retry{self._more_in_words(budget=None)}"
        retried = "" if self.retry_on == RETRIED_BY_DEFAULT else f", for {', '.join(self.retry_on.names())}"
        more = self._more_in_words(self.budget)
        return f"{self.max_attempts} attempts in all{retried}; {self._waits_in_words()}{more}"

    def _waits_in_words(self) -> str:
        if self.strategy is RetryStrategy.IMMEDIATE:
            return "no waits"
        first, cap = format_duration(self.initial_delay), format_duration(self.max_delay)
        if self.jitter is Jitter.DECORRELATED:
            return (
                f"waits between {first} and {DECORRELATED_GROWTH:g} × the last wait, up to {cap} (decorrelated jitter)"
            )
        growth = {
            RetryStrategy.EXPONENTIAL_BACKOFF: f", then × {self.backoff_multiplier:g} up to {cap}",
            RetryStrategy.LINEAR_BACKOFF: f", then {first} more each time up to {cap}",
            RetryStrategy.FIXED_DELAY: "",
        }[self.strategy]
        return f"waits {first}{growth}{'' if self.jitter is Jitter.NONE else f', with {self.jitter} jitter'}"

    def _more_in_words(self, budget: RetryBudgetConfig | str | None) -> str:
        result = f"a result that {self.retry_on_result} names is a failure" if self.retry_on_result else None
        if isinstance(budget, str):
            budget = f"within the shared budget {budget}"
        elif budget is not None:
            budget = budget.in_words()
        breaker = "waits for an open breaker" if self.wait_for_breaker else None
        return "".join(f"; {words}" for words in (result, budget, breaker) if words is not None)


def _as_jitter(value: object) -> Jitter:
    """In Python, ``jitter=True`` means full, as other libraries have it."""
    if isinstance(value, bool):
        return Jitter.FULL if value else Jitter.NONE
    return Jitter(str(value))
