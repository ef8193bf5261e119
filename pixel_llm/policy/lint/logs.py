"""Rules about logging."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.lint.production import in_production
from pixel_llm.policy.lint.rule import Finding, Rule
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.sections.logging import LogContent, LogLevel


def _debug_in_production(loaded: LoadedPolicy) -> Iterator[Finding]:
    if loaded.config.logging.level is LogLevel.DEBUG and (name := in_production(loaded)):
        message = f"{name} logs at DEBUG, which buries what matters: use INFO"
        yield Finding(("logging", "level"), message)


def _content_in_production(loaded: LoadedPolicy) -> Iterator[Finding]:
    if loaded.config.logging.log_content is LogContent.FULL and (name := in_production(loaded)):
        message = f"{name} writes every prompt and caption into the log: use redacted"
        yield Finding(("logging", "log_content"), message)


RULES = (
    Rule(
        id="PL701",
        name="Log level DEBUG in production",
        severity=ProblemSeverity.WARNING,
        why="DEBUG adds what only matters while somebody looks for a fault, and buries the rest.",
        mend="Use INFO or WARNING. For a short look, lay an overlay with DEBUG over the profile.",
        bad="extends: production\nlogging: {level: DEBUG}",
        good="extends: production\nlogging: {level: WARNING}",
        check=_debug_in_production,
    ),
    Rule(
        id="PL702",
        name="Content logging in production",
        severity=ProblemSeverity.ERROR,
        why="What people ask, and what their pictures show, would lie in a file that many may read and nobody deletes.",
        mend="Use `log_content: redacted`. To look into a fault, use `full` in a profile for development.",
        bad="extends: production\nlogging: {log_content: full}",
        good="extends: development\nlogging: {log_content: full}",
        check=_content_in_production,
    ),
)
