"""A whole policy: its sections, and what only its source files say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pixel_llm.policy.kinds import ListOf, Literal, MapOf, Name, Setting, Text, TextOr
from pixel_llm.policy.sections.circuit_breaker import CircuitBreakerConfig
from pixel_llm.policy.sections.encoder import EncoderConfig
from pixel_llm.policy.sections.fallback import FALLBACK_CHAIN
from pixel_llm.policy.sections.lm_studio import LMStudioConfig
from pixel_llm.policy.sections.logging import LoggingConfig
from pixel_llm.policy.sections.retry import RetryConfig
from pixel_llm.policy.sections.retry_budget import BUDGET_PATTERN, RetryBudgetConfig
from pixel_llm.policy.sections.target import TARGETS, TEMPLATE_PATTERN, TargetPolicy
from pixel_llm.policy.settings import Section, setting

#: The layers that a template can stand for.
TEMPLATE_KINDS = {
    "retry": Section(RetryConfig),
    "circuit_breaker": Section(CircuitBreakerConfig),
    "fallback": FALLBACK_CHAIN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Templates:
    """Named layers that targets take by name. Used up by merging: no PolicyConfig has any."""

    retry: Any = setting(
        MapOf(TEMPLATE_KINDS["retry"], TEMPLATE_PATTERN, "the name of a template"),
        "Retry sections by name.",
        default=None,
        example={"patient": {"max_attempts": 5}},
    )
    circuit_breaker: Any = setting(
        MapOf(TEMPLATE_KINDS["circuit_breaker"], TEMPLATE_PATTERN, "the name of a template"),
        "Circuit breaker sections by name.",
        default=None,
        example={"quick": {"failure_threshold": 3, "cooldown": "10s"}},
    )
    fallback: Any = setting(
        MapOf(TEMPLATE_KINDS["fallback"], TEMPLATE_PATTERN, "the name of a template"),
        "Fallback chains by name.",
        default=None,
        example={"apologise": [{"default_value": "Unable to generate caption"}]},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyConfig:
    """A pixel-llm policy: how calls are guarded, in one environment. Immutable, safe to share between threads."""

    version: int = setting(Literal(1), "The version of the policy language.", example=1)
    description: str = setting(
        Text(), "What this policy is for, in a sentence.", default="", example="Captions for people who wait."
    )
    lm_studio: LMStudioConfig = setting(
        Section(LMStudioConfig),
        "Which server, which model, what is asked.",
        default=LMStudioConfig(),
        example={"model": "qwen2.5-vl-7b-instruct"},
    )
    encoder: EncoderConfig = setting(
        Section(EncoderConfig),
        "How features and a description are got from a picture.",
        default=EncoderConfig(),
        example={"type": "patch"},
    )
    logging: LoggingConfig = setting(
        Section(LoggingConfig), "What is written down, and where.", default=LoggingConfig(), example={"level": "INFO"}
    )
    targets: Mapping[str, TargetPolicy] = field(
        default_factory=dict,
        metadata={
            "setting": Setting(
                TARGETS,
                "One stack of layers for each thing that is called, by its name. A pattern such as billing.* stands "
                "for every name below it; the most specific one wins, setting by setting.",
                {"lm_studio.chat": {"timeout": "30s"}},
            )
        },
    )
    retry_budgets: Mapping[str, RetryBudgetConfig] = field(
        default_factory=dict,
        metadata={
            "setting": Setting(
                MapOf(Section(RetryBudgetConfig), BUDGET_PATTERN, "the name of a retry budget such as lm_studio"),
                "Retry budgets by name. All targets whose retry.budget is that name share it, each call of any of them "
                "counting.",
                {"lm_studio": {"ratio": 0.2, "window": "10s"}},
            )
        },
    )


PROFILE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"

_PROFILE_NAME = Name("the name of a profile such as basic, without a folder", PROFILE_PATTERN)

POLICY = Section(
    PolicyConfig,
    source_settings={
        "extends": Setting(
            TextOr(_PROFILE_NAME, ListOf(_PROFILE_NAME)),
            "The profile that this one builds on, or several, later ones over earlier ones.",
            "basic",
        ),
        "defaults": Setting(
            Section(TargetPolicy),
            "What every target has, unless a pattern or its own section says otherwise.",
            {"deadline": "60s"},
        ),
        "templates": Setting(
            Section(Templates), "Named layers that targets take by name.", {"retry": {"patient": {"max_attempts": 5}}}
        ),
    },
)
