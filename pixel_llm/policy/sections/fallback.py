"""The `fallback` section: what serves when everything else failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.kinds import Duration, Integer, Kind, ListOf, RegisteredName, Setting, Size, Steps, Text
from pixel_llm.policy.sections.matching import ERROR_NAMES, SERVED_BY_DEFAULT, ErrorMatcher
from pixel_llm.policy.settings import Section, setting
from pixel_llm.policy.showing import show
from pixel_llm.policy.sizes import format_size


class FallbackStrategy(StrEnum):
    """The kinds of fallback steps."""

    CACHE = "cache"
    DEFAULT_VALUE = "default_value"
    CUSTOM_FUNCTION = "custom_function"
    TARGET = "target"
    MODEL = "model"
    ENDPOINT = "endpoint"
    NONE = "none"
    RAISE = "raise"


#: The steps that call something. They share the deadline, and are skipped once it has passed.
TAKE_TIME = frozenset(
    {
        FallbackStrategy.CUSTOM_FUNCTION,
        FallbackStrategy.TARGET,
        FallbackStrategy.MODEL,
        FallbackStrategy.ENDPOINT,
    }
)

#: A target's name; a pattern is none.
TARGET_NAME_PATTERN = r"^[a-z][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*$"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """
    How long good results are kept, and how many.

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

    def in_words(self) -> str:
        """What it means, in a few words."""
        entries = "1 entry" if self.max_entries == 1 else f"{self.max_entries} entries"
        return f"for {format_duration(self.ttl)}, {entries}, {format_size(self.max_bytes)}"


@dataclass(frozen=True, slots=True)
class FallbackStep:
    """
    One step of a chain. *when* names the errors it serves for.

    *cache* belongs to CACHE. *value* is what DEFAULT_VALUE gives; to the steps that take time it is the name of
    a function, a target or a model, or an address; *reserve* is what is kept of the deadline for them, in seconds.
    RAISE serves for none: it ends the chain, whatever went wrong. Immutable, safe to share between threads.
    """

    strategy: FallbackStrategy
    cache: CacheConfig | None = None
    value: Any = None
    when: ErrorMatcher = SERVED_BY_DEFAULT
    reserve: float | None = None

    @property
    def takes_time(self) -> bool:
        """True if it calls something, so that it needs time. The others serve even after the deadline."""
        return self.strategy in TAKE_TIME

    @property
    def name(self) -> str:
        """What outcomes, events and logs call it: its strategy and, where there may be several, what it calls."""
        return f"{self.strategy.value}:{self.value}" if self.takes_time else self.strategy.value

    def in_words(self) -> str:
        """What it means, in a few words."""
        text = self._text()
        if self.reserve is not None:
            text = f"{text}, {format_duration(self.reserve)} kept for it"
        return text if self.when == SERVED_BY_DEFAULT else f"{text} (for {', '.join(self.when.names())})"

    def _text(self) -> str:
        if self.cache is not None:
            return f"{self.strategy.value} {self.cache.in_words()}"
        if self.strategy is FallbackStrategy.DEFAULT_VALUE:
            return f"default value {show(self.value)}"
        words = self.strategy.value.replace("custom_", "")
        return f"{words} {self.value}" if self.takes_time else words


def reserved(steps: Sequence[FallbackStep]) -> float:
    """The seconds of the deadline that *steps* keep for themselves, together."""
    return sum(step.reserve or 0.0 for step in steps)


def _make_step(name: str, value: Any, extras: Mapping[str, Any]) -> FallbackStep:
    strategy = FallbackStrategy(name)
    if strategy is FallbackStrategy.CACHE:
        return FallbackStep(strategy, cache=value, **extras)
    return FallbackStep(strategy, value=value, **extras)


def _unmake_step(step: FallbackStep) -> tuple[str, Any, Mapping[str, Any]]:
    extras: dict[str, Any] = {} if step.when == SERVED_BY_DEFAULT else {"when": step.when}
    if step.reserve is not None:
        extras["reserve"] = step.reserve
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
            FallbackStrategy.CUSTOM_FUNCTION.value: Setting(
                RegisteredName(),
                "What this function gives, called with the same arguments; it is registered by the program.",
                "apologise",
            ),
            FallbackStrategy.TARGET.value: Setting(
                Text("the name of a target such as billing.charge", TARGET_NAME_PATTERN),
                "What another target gives, called with the same arguments through its own stack.",
                "captions.small",
            ),
            FallbackStrategy.MODEL.value: Setting(
                Text("the name of a model", may_be_empty=False),
                "The same request, to another model; once, with a breaker of its own.",
                "qwen2.5-vl-3b-instruct",
            ),
            FallbackStrategy.ENDPOINT.value: Setting(
                Text("an http or https address such as http://127.0.0.1:1235/v1", r"^https?://[^\s/]+(/\S*)?$"),
                "The same request, to another server; once, with a breaker of its own, without the key of the first.",
                "http://127.0.0.1:1235/v1",
            ),
        },
        extra={
            "when": Setting(
                ERROR_NAMES,
                "The errors this step serves for, by category, code or HTTP status; by default every category but "
                "PERMANENT. The list replaces the default.",
                ["THROTTLED", "ERR_API_CONTEXT_LENGTH"],
            ),
            "reserve": Setting(
                Duration(),
                "What is kept of the deadline for a step that calls something: what is before it ends so much earlier.",
                "10s",
            ),
        },
        make=_make_step,
        unmake=_unmake_step,
    )
)
