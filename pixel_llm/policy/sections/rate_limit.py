"""The `rate_limit` section: how many calls may start, and how many tokens may be used, in any window of time."""

from __future__ import annotations

from dataclasses import dataclass

from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.kinds import Duration, Integer, RegisteredName
from pixel_llm.policy.settings import Section, setting
from pixel_llm.policy.showing import count


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLimitConfig:
    """
    How many tokens of a language model calls may use. Immutable, safe to share between threads.

    ``period`` is seconds.
    """

    max_tokens: int = setting(
        Integer(1, 1_000_000_000),
        "Tokens for each period, prompt and completion together; also the most that can be saved up.",
        default=100_000,
        example=100_000,
    )
    period: float = setting(Duration(), "The time in which max_tokens flow in, evenly.", default=60.0, example="1m")
    usage: str | None = setting(
        RegisteredName(),
        "A registered function that gives the tokens a result has used. Without it the result must say so itself, "
        "as those of LM Studio and the OpenAI API do: usage.total_tokens, or prompt_tokens and completion_tokens.",
        default=None,
        example="billing.tokens_used",
    )

    def in_words(self) -> str:
        """What it means, in a few words."""
        return f"{count(self.max_tokens, 'token')} in {format_duration(self.period)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitConfig:
    """
    How often a target may be called. Immutable, safe to share between threads.

    ``period`` and ``max_wait`` are seconds.
    """

    max_calls: int | None = setting(
        Integer(1, 1_000_000),
        "Attempts that may start in any window of one period, wherever it begins.",
        default=None,
        example=10,
    )
    period: float = setting(Duration(), "The length of the window.", default=1.0, example="1s")
    max_wait: float = setting(
        Duration(may_be_zero=True),
        "How long an attempt may wait for its turn. One whose turn comes later is refused at once.",
        default=0.0,
        example="2s",
    )
    tokens: TokenLimitConfig | None = setting(
        Section(TokenLimitConfig),
        "How many tokens a language model may use; an attempt starts only while some are left.",
        default=None,
        example={"max_tokens": 100_000, "period": "1m"},
    )

    def limit_in_words(self) -> str:
        """The limit alone, in a few words."""
        calls = [] if self.max_calls is None else [f"{count(self.max_calls, 'call')} in {format_duration(self.period)}"]
        return " and ".join(calls + ([] if self.tokens is None else [self.tokens.in_words()]))

    def in_words(self) -> str:
        """What it means, in a few words."""
        waits = f"waits up to {format_duration(self.max_wait)}" if self.max_wait else "refuses at once"
        return f"{self.limit_in_words()}; {waits}"
