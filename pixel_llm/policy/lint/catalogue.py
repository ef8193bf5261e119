"""Every rule there is, in the order of their ids."""

from __future__ import annotations

from pixel_llm.policy.lint import (
    basics,
    breaker,
    breaker_settings,
    chaos,
    comments,
    encoder,
    fallback_steps,
    fallbacks,
    hedges,
    logs,
    queues,
    repetition,
    retries,
    retry_limits,
    server,
    servers,
    streams,
    structure,
    time,
    vision,
)
from pixel_llm.policy.lint.rule import Rule

_CONCEPTS = (
    basics,
    time,
    retries,
    retry_limits,
    breaker,
    breaker_settings,
    fallbacks,
    fallback_steps,
    chaos,
    hedges,
    streams,
    structure,
    repetition,
    server,
    servers,
    vision,
    logs,
    queues,
    encoder,
    comments,
)

RULES: tuple[Rule, ...] = tuple(sorted((rule for concept in _CONCEPTS for rule in concept.RULES), key=lambda r: r.id))


def find_rule(rule_id: str) -> Rule | None:
    """The rule of this id."""
    return next((rule for rule in RULES if rule.id == rule_id), None)
