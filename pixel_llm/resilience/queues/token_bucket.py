"""The tokens of a language model, so many a minute."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from pixel_llm.policy import TokenLimitConfig

#: More tokens than any call uses, and as many as a limit can have: what says more has gone wrong.
MOST_TOKENS = 1_000_000_000


class TokenBucket:
    """
    A bucket that fills evenly and is charged when a call has ended, since only then it is known what it used.

    It holds *M* = ``max_tokens`` at most and gets *r* = ``max_tokens / period`` a second. Calls are admitted while
    its level is above 0; the level may sink below. Not safe for concurrent use: the rate limit calls it with its
    lock held.

    The bound: let *s* be the last admission in a window of *W* seconds. The level was at most M at its beginning,
    at most r·W came in, and at *s* it was still above 0. So less than ``M + r·W`` had been charged in the window up
    to *s*; what is charged or admitted in it beyond that belongs to calls in flight at *s*.
    """

    __slots__ = ("_level", "_rate", "_updated", "config")

    def __init__(self, config: TokenLimitConfig, now: float) -> None:
        self.config = config
        self._rate = config.max_tokens / config.period
        self._level = float(config.max_tokens)
        self._updated = now

    def level(self, now: float) -> float:
        """The tokens in it at the moment *now*; negative after calls that used more than there was."""
        return min(float(self.config.max_tokens), self._level + (now - self._updated) * self._rate)

    def ready_at(self, now: float) -> float:
        """When a call can be admitted: now, or when there is a whole token again."""
        level = self.level(now)
        return now if level > 0 else max(now + (1 - level) / self._rate, math.nextafter(now, math.inf))

    def change(self, config: TokenLimitConfig, now: float) -> None:
        """
        Hold another limit from *now* on: what is in the bucket stays, as far as the new one holds it.

        So in a window that holds the change less had been charged up to its last admission than the old ``max_tokens``
        and what both rates let in, each for its part of the window.
        """
        self._level, self._updated = min(self.level(now), float(config.max_tokens)), now
        self.config, self._rate = config, config.max_tokens / config.period

    def spend(self, tokens: float, now: float) -> None:
        """Take out what a call has used."""
        self._level = self.level(now) - tokens
        self._updated = now


def checked_tokens(used: Any) -> float:
    """
    The tokens that a usage function says a result has *used*; less than none are none.

    Raises:
        ValueError: If that is no number of tokens, or more than any call can use.
    """
    if isinstance(used, bool) or not isinstance(used, Real) or not used <= MOST_TOKENS:
        raise ValueError(f"{used!r} is no number of tokens from 0 to {MOST_TOKENS}")
    return max(0.0, float(used))


def count_tokens(result: Any) -> float | None:
    """
    What a chat's *result* says it used: prompt and completion, or None if it says nothing.

    Knows the replies of the LM Studio client, and everything with a ``usage`` as the OpenAI API has it:
    objects and mappings.
    """
    usage = _field(result, "usage")
    source = result if usage is None else usage
    total = _number(_field(source, "total_tokens"))
    if total is not None:
        return total
    parts = [_number(_field(source, name)) for name in ("prompt_tokens", "completion_tokens")]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def _field(source: Any, name: str) -> Any:
    return source.get(name) if isinstance(source, dict) else getattr(source, name, None)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return max(0.0, float(value))
