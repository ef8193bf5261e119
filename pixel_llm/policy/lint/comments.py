"""Rules about the ignore comments themselves. :mod:`suppression` finds what breaks them."""

from __future__ import annotations

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.lint.rule import Rule
from pixel_llm.policy.lint.suppression import NOT_UNDERSTOOD, WITHOUT_EFFECT, WITHOUT_REASON

_FOUND = "targets: {a.b: {deadline: 5s, timeout: 10s}}"
_GOOD = f"{_FOUND}  # pixel-llm: ignore PL101 -- the deadline is lifted in staging"


def _about_comments(rule_id: str, name: str, why: str, mend: str, bad: str, good: str = _GOOD) -> Rule:
    return Rule(id=rule_id, name=name, severity=ProblemSeverity.WARNING, why=why, mend=mend, bad=bad, good=good)


RULES = (
    _about_comments(
        WITHOUT_REASON,
        "An ignore comment without a reason",
        "Whoever reads the policy next can't tell a decision from a shortcut.",
        "Write the reason after `--`.",
        f"{_FOUND}  # pixel-llm: ignore PL101",
    ),
    _about_comments(
        WITHOUT_EFFECT,
        "An ignore comment without effect",
        "What it ignored is gone; left alone, it would hide the next mistake.",
        "Remove it.",
        "targets: {a.b: {deadline: 50s, timeout: 10s}}  # pixel-llm: ignore PL101 -- no longer true",
    ),
    _about_comments(
        NOT_UNDERSTOOD,
        "An ignore comment that is not understood",
        "It names no rule that there is, so it ignores nothing.",
        "Write `# pixel-llm: ignore PL101 -- why`; several rules are separated by commas.",
        f"{_FOUND}  # pixel-llm: ignore everything",
    ),
)
