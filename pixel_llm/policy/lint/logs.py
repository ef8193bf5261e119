"""Rules about logging."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.lint.origins import lineage
from pixel_llm.policy.lint.rule import Finding, Rule
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.sections.logging import LogLevel

_PRODUCTION = re.compile(r"(?<![a-z])prod(uction)?(?![a-z])", re.IGNORECASE)


def _debug_in_production(loaded: LoadedPolicy) -> Iterator[Finding]:
    if loaded.config.logging.level is not LogLevel.DEBUG:
        return
    names = [loaded.profile, *sorted(file.stem for file in lineage(loaded, loaded.file))]
    production = next((name for name in names if _PRODUCTION.search(name)), None)
    if production is not None:
        builds_on = "" if production == loaded.profile else f"builds on {production} but "
        yield Finding(
            ("logging", "level"),
            f"{loaded.profile} {builds_on}logs at DEBUG, which writes a record for every call: use INFO",
        )


RULES = (
    Rule(
        id="PL701",
        name="Log level DEBUG in production",
        severity=ProblemSeverity.WARNING,
        why="DEBUG writes a record for every single call, which costs time and disk where there are many, and buries "
        "what matters.",
        mend="Use INFO or WARNING. For a short look, lay an overlay with DEBUG over the profile.",
        bad="extends: production\nlogging: {level: DEBUG}",
        good="extends: production\nlogging: {level: WARNING}",
        check=_debug_in_production,
    ),
)
