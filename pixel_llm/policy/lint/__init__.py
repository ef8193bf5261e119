"""The linter: what is valid, yet likely a mistake. One file a concept, one :class:`Rule` a rule."""

from pixel_llm.policy.lint.catalogue import RULES, find_rule
from pixel_llm.policy.lint.rule import Finding, Rule
from pixel_llm.policy.lint.suppression import Suppressions

__all__ = ["RULES", "Finding", "Rule", "Suppressions", "find_rule"]
