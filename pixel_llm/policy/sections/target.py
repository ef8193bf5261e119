"""The `targets` section: one stack of layers for each thing that is called."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass

from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.kinds import LONGEST_NAME, Duration, Flag, MapOf, Setting, Text, TextOr
from pixel_llm.policy.sections.bulkhead import BulkheadConfig
from pixel_llm.policy.sections.chaos import ChaosConfig
from pixel_llm.policy.sections.circuit_breaker import CircuitBreakerConfig
from pixel_llm.policy.sections.fallback import FALLBACK_CHAIN, CacheConfig, FallbackStep
from pixel_llm.policy.sections.hedge import HedgeConfig
from pixel_llm.policy.sections.rate_limit import RateLimitConfig
from pixel_llm.policy.sections.retry import RetryConfig
from pixel_llm.policy.sections.timeout import TimeoutConfig
from pixel_llm.policy.settings import Section, setting

#: The targets that the system itself calls.
SYSTEM_TARGETS = ("pixel_llm.generate", "encoder.load", "encoder.forward", "lm_studio.chat", "lm_studio.models")

#: Names below these prefixes belong to the system.
SYSTEM_PREFIXES = ("pixel_llm.", "encoder.", "lm_studio.")

#: The name of a target, or a pattern for all names below a prefix.
TARGET_PATTERN = r"^[a-z][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*(\.\*)?$"
TEMPLATE_PATTERN = r"^[a-z][a-z0-9_-]*$"
TEMPLATE_NAME = Text("the name of a template", TEMPLATE_PATTERN)

_TEMPLATE = {
    "template": Setting(TEMPLATE_NAME, "A template that the settings beside it are laid over.", "patient"),
}


def is_target_name(text: str) -> bool:
    """True if *text* has the form of a target's name, and is no pattern."""
    return len(text) <= LONGEST_NAME and re.fullmatch(TARGET_PATTERN, text) is not None and not is_pattern(text)


def is_system_name(target: str) -> bool:
    """True if *target* lies under a prefix that belongs to the system."""
    return target.startswith(SYSTEM_PREFIXES)


def is_pattern(target: str) -> bool:
    """True if *target* stands for every name below a prefix, such as ``billing.*``."""
    return target.endswith(".*")


def patterns_for(target: str, names: Container[str]) -> list[str]:
    """Those of *names* that are patterns which cover *target*, the least specific first."""
    parts = target.split(".")
    patterns = (f"{'.'.join(parts[:length])}.*" for length in range(1, len(parts)))
    return [pattern for pattern in patterns if pattern != target and pattern in names]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPolicy:
    """
    What guards one target. A layer that is None is not there.

    ``deadline`` is seconds. Immutable, safe to share between threads.
    """

    deadline: float | None = setting(
        Duration(),
        "How long the whole call may take: every attempt and every wait. Nested targets inherit what is left.",
        default=None,
        example="120s",
    )
    fallback: tuple[FallbackStep, ...] | None = setting(
        TextOr(TEMPLATE_NAME, FALLBACK_CHAIN),
        "What serves when the call failed for good, tried in order; or the name of a template. "
        "Errors that trying again cannot mend (PERMANENT) pass through.",
        default=None,
        example=[{"cache": {"ttl": "1h"}}, {"default_value": "Unable to generate caption"}],
    )
    cache: CacheConfig | None = setting(
        Section(CacheConfig),
        "Keep good results, and give them to equal calls without calling again; equal calls at once make one. "
        "A result is given for as long as ttl says, whether the target is well or not.",
        default=None,
        example={"ttl": "5m"},
    )
    retry: RetryConfig | None = setting(
        TextOr(TEMPLATE_NAME, Section(RetryConfig, _TEMPLATE), key="template"),
        "How the call is tried again; or the name of a template.",
        default=None,
        example={"max_attempts": 3, "initial_delay": "1s"},
    )
    hedge: HedgeConfig | None = setting(
        TextOr(Duration(), Section(HedgeConfig), key="delay"),
        "When another attempt is sent beside one that takes long, the first success winning; a duration, or a map. "
        "Only for what may be called twice: targets of your own must say `idempotent: true`.",
        default=None,
        example="500ms",
    )
    circuit_breaker: CircuitBreakerConfig | None = setting(
        TextOr(TEMPLATE_NAME, Section(CircuitBreakerConfig, _TEMPLATE), key="template"),
        "When calls are refused without being tried; or the name of a template.",
        default=None,
        example={"failure_threshold": 5, "cooldown": "60s"},
    )
    rate_limit: RateLimitConfig | None = setting(
        Section(RateLimitConfig),
        "How many attempts may start, and how many tokens they may use, in any window of time.",
        default=None,
        example={"max_calls": 10, "period": "1s", "max_wait": "2s"},
    )
    bulkhead: BulkheadConfig | None = setting(
        Section(BulkheadConfig),
        "How many attempts may be under way at once, and how many may wait.",
        default=None,
        example={"max_concurrent": 4, "max_waiting": 16, "max_wait": "5s"},
    )
    timeout: TimeoutConfig | None = setting(
        TextOr(Duration(), Section(TimeoutConfig), key="attempt"),
        "How long each attempt may take; a plain sync function with a timeout runs in a worker thread.",
        default=None,
        example="30s",
    )
    chaos: ChaosConfig | None = setting(
        Section(ChaosConfig),
        "Faults that are injected into attempts, to see what the other layers make of them. Not for production.",
        default=None,
        example={"error": {"rate": 0.1, "codes": ["ERR_CONN_REFUSED"]}, "seed": 7},
    )
    idempotent: bool | None = setting(
        Flag(),
        "Whether the call may safely be made twice; targets of your own that retry must say it. "
        "With false, only errors that prove that nothing was sent are retried.",
        default=None,
        example=True,
    )

    def layers_in_words(self) -> list[tuple[str, str]]:
        """The layers that are there, outermost first, each with its meaning in a few words; the call last."""
        layers: list[tuple[str, str]] = []
        if self.deadline is not None:
            layers.append(("deadline", f"{format_duration(self.deadline)} for the whole call"))
        if self.fallback is not None:
            layers.append(("fallback", ", then ".join(step.in_words() for step in self.fallback)))
        if self.cache is not None:
            layers.append(("cache", f"results {self.cache.in_words()}; equal calls at once make one"))
        if self.retry is not None:
            layers.append(("retry", self.retry.in_words()))
        if self.hedge is not None:
            layers.append(("hedge", self.hedge.in_words()))
        if self.circuit_breaker is not None:
            layers.append(("circuit_breaker", self.circuit_breaker.in_words()))
        if self.rate_limit is not None:
            layers.append(("rate_limit", self.rate_limit.in_words()))
        if self.bulkhead is not None:
            layers.append(("bulkhead", self.bulkhead.in_words()))
        if self.timeout is not None:
            layers.append(("timeout", self.timeout.in_words()))
        if self.chaos is not None:
            layers.append(("chaos", self.chaos.in_words()))
        return [*layers, ("call", "")]


TARGETS = MapOf(
    Section(TargetPolicy), TARGET_PATTERN, "a target name such as billing.charge, or a pattern such as billing.*"
)
