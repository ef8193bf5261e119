"""Every rule there is, in the order of their ids."""

from __future__ import annotations

from pixel_llm.policy.lint import basics, comments, time
from pixel_llm.policy.lint.rule import Rule

RULES: tuple[Rule, ...] = tuple(sorted((*basics.RULES, *time.RULES, *comments.RULES), key=lambda rule: rule.id))


def find_rule(rule_id: str) -> Rule | None:
    """The rule of this id."""
    return next((rule for rule in RULES if rule.id == rule_id), None)
