"""The `fallback` section: what serves when everything else failed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pixel_llm.policy.kinds import Duration, Integer, Kind, ListOf, OneKeyOf
from pixel_llm.policy.settings import Section, setting


class FallbackStrategy(StrEnum):
    """The kinds of fallback steps."""

    CACHE = "cache"
    DEFAULT_VALUE = "default_value"
    NONE = "none"
    RAISE = "raise"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """
    The last good result of the same request, read only after a failure.

    ``ttl`` is seconds. Immutable, safe to share between threads.
    """

    ttl: float = setting(Duration(), "How old a result may be and still serve.", default=3600.0, example="1h")
    max_entries: int = setting(
        Integer(1, 10_000_000), "Results kept; beyond that the one unused for longest goes.", default=1000, example=1000
    )


@dataclass(frozen=True, slots=True)
class FallbackStep:
    """One step of a chain. *cache* belongs to CACHE, *value* to DEFAULT_VALUE."""

    strategy: FallbackStrategy
    cache: CacheConfig | None = None
    value: Any = None


def _make_step(name: str, value: Any) -> FallbackStep:
    strategy = FallbackStrategy(name)
    if strategy is FallbackStrategy.CACHE:
        return FallbackStep(strategy, cache=value)
    return FallbackStep(strategy, value=value)


#: A chain of steps, tried in order until one serves.
FALLBACK_CHAIN = ListOf(
    OneKeyOf(
        bare=(FallbackStrategy.NONE.value, FallbackStrategy.RAISE.value),
        keyed={FallbackStrategy.CACHE.value: Section(CacheConfig), FallbackStrategy.DEFAULT_VALUE.value: Kind()},
        make=_make_step,
    )
)
