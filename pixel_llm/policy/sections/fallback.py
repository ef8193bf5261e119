"""The `fallback` section: what serves when everything else failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.kinds import Duration, Integer, Kind, ListOf, Setting, Size, Steps
from pixel_llm.policy.sections.matching import ERROR_NAMES, SERVED_BY_DEFAULT, ErrorMatcher
from pixel_llm.policy.settings import Section, setting
from pixel_llm.policy.showing import show
from pixel_llm.policy.sizes import format_size


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
    max_bytes: int = setting(
        Size(),
        "Memory for results and their keys; beyond that the one unused for longest goes.",
        default=64 * 1024 * 1024,
        example="64MiB",
    )


@dataclass(frozen=True, slots=True)
class FallbackStep:
    """
    One step of a chain. *cache* belongs to CACHE, *value* to DEFAULT_VALUE; *when* names the errors it serves for.

    RAISE serves for none: it ends the chain, whatever went wrong. Immutable, safe to share between threads.
    """

    strategy: FallbackStrategy
    cache: CacheConfig | None = None
    value: Any = None
    when: ErrorMatcher = SERVED_BY_DEFAULT

    def in_words(self) -> str:
        """What it means, in a few words."""
        text = self.strategy.value
        if self.cache is not None:
            number, size = self.cache.max_entries, format_size(self.cache.max_bytes)
            entries = "1 entry" if number == 1 else f"{number} entries"
            text = f"cache for {format_duration(self.cache.ttl)}, {entries}, {size}"
        elif self.strategy is FallbackStrategy.DEFAULT_VALUE:
            text = f"default value {show(self.value)}"
        return text if self.when == SERVED_BY_DEFAULT else f"{text} (for {', '.join(self.when.names())})"


def _make_step(name: str, value: Any, extras: Mapping[str, Any]) -> FallbackStep:
    strategy = FallbackStrategy(name)
    when = extras.get("when", SERVED_BY_DEFAULT)
    if strategy is FallbackStrategy.CACHE:
        return FallbackStep(strategy, cache=value, when=when)
    return FallbackStep(strategy, value=value, when=when)


def _unmake_step(step: FallbackStep) -> tuple[str, Any, Mapping[str, Any]]:
    extras = {} if step.when == SERVED_BY_DEFAULT else {"when": step.when}
    return step.strategy.value, step.cache if step.cache is not None else step.value, extras


#: A chain of steps, tried in order until one serves.
FALLBACK_CHAIN = ListOf(
    Steps(
        bare=(FallbackStrategy.NONE.value, FallbackStrategy.RAISE.value),
        keyed={
            FallbackStrategy.CACHE.value: Setting(
                Section(CacheConfig), "The last good result of the same request.", {"ttl": "1h"}
            ),
            FallbackStrategy.DEFAULT_VALUE.value: Setting(
                Kind(), "Always this value, of any kind.", "Unable to generate caption"
            ),
        },
        extra={
            "when": Setting(
                ERROR_NAMES,
                "The errors this step serves for, by category, code or HTTP status; by default every category but "
                "PERMANENT. The list replaces the default.",
                ["THROTTLED", "ERR_API_CONTEXT_LENGTH"],
            )
        },
        make=_make_step,
        unmake=_unmake_step,
    )
)
