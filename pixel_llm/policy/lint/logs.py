"""Rules about logging."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.lint.production import in_production
from pixel_llm.policy.lint.rule import Finding, Rule, is_written, key_place
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.sections.logging import LogContent, LogLevel
from pixel_llm.policy.sections.target import SYSTEM_TARGETS, is_pattern, patterns_for
from pixel_llm.policy.suggestions import suggestion


def _debug_in_production(loaded: LoadedPolicy) -> Iterator[Finding]:
    logging, name = loaded.config.logging, in_production(loaded)
    if name is None:
        return
    if logging.level is LogLevel.DEBUG:
        yield Finding(("logging", "level"), f"{name} logs at DEBUG, which buries what matters: use INFO")
    for target, level in logging.levels.items():
        if level is LogLevel.DEBUG:
            message = f"{name} logs {target} at DEBUG, which buries what matters: use INFO"
            yield Finding(("logging", "levels", target), message)


def _content_in_production(loaded: LoadedPolicy) -> Iterator[Finding]:
    if loaded.config.logging.log_content is LogContent.FULL and (name := in_production(loaded)):
        message = f"{name} writes every prompt and caption into the log: use redacted"
        yield Finding(("logging", "log_content"), message)


def _without_effect(loaded: LoadedPolicy) -> Iterator[Finding]:
    logging = loaded.config.logging
    missing = (
        ("rotation", logging.file is None, "there is no `file` that it could turn over"),
        ("format", not logging.console, "only the console is written so, and there is none: add `console: true`"),
        ("queue_size", logging.file is None and not logging.console, "nothing waits without `file` or `console`"),
    )
    for name, is_missing, why in missing:
        if is_missing and is_written(loaded, ("logging", name)):
            yield Finding(("logging", name), f"has no effect: {why}")


def _grows_for_ever(loaded: LoadedPolicy) -> Iterator[Finding]:
    logging = loaded.config.logging
    if logging.file is not None and logging.rotation is None and (name := in_production(loaded)):
        yield Finding(("logging", "file"), f"{name} writes a log that grows until the disk is full: add `rotation`")


def _level_of_no_target(loaded: LoadedPolicy) -> Iterator[Finding]:
    known = {*SYSTEM_TARGETS, *loaded.config.targets}
    for name in loaded.config.logging.levels:
        is_known = name in known or is_pattern(name) or patterns_for(name, known)
        if not is_known and (hint := suggestion(name, sorted(known))):
            message = f"no target is called {name!r}, so that this is the level of a logger of that name alone{hint}"
            yield Finding(("logging", "levels", name), message, key_place(loaded.document, ("logging", "levels", name)))


def _level_that_holds_anyway(loaded: LoadedPolicy) -> Iterator[Finding]:
    logging = loaded.config.logging
    for name, level in logging.levels.items():
        patterns = patterns_for(name, logging.levels)
        anyway, where = (logging.levels[patterns[-1]], patterns[-1]) if patterns else (logging.level, "level")
        if level is anyway:
            yield Finding(("logging", "levels", name), f"{level} is what {where} says anyway: leave it out")


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
    Rule(
        id="PL703",
        name="Logging setting without effect",
        severity=ProblemSeverity.WARNING,
        why="Whoever wrote it believes that logs are turned over, or look otherwise; but there is nothing to which it "
        "could apply.",
        mend="Name the `file`, or set `console: true`; or leave the setting out.",
        bad="logging: {console: true, rotation: {max_size: 10MiB}}",
        good="logging: {file: logs/pixel_llm.log, rotation: {max_size: 10MiB}}",
        check=_without_effect,
    ),
    Rule(
        id="PL704",
        name="Log file in production that only grows",
        severity=ProblemSeverity.WARNING,
        why="In an outage every call writes several records. A disk that is full takes down more than this program.",
        mend="Add `rotation`, which keeps a number of files of a size. Where logrotate or the like does it already, "
        "ignore this rule and say so: files that are moved away are made anew.",
        bad="description: Production.\nextends: production\nlogging: {file: logs/all.log, rotation: null}",
        good="extends: production\nlogging: {file: logs/all.log, rotation: {max_size: 10MiB}}",
        check=_grows_for_ever,
    ),
    Rule(
        id="PL705",
        name="Log level for a name that no target has",
        severity=ProblemSeverity.WARNING,
        why="It is nearly the name of a target, and a level for another name does nothing for it.",
        mend="Use the target's name. If a logger of the program is really called so, ignore this rule and say so.",
        bad="logging: {levels: {bilingl.charge: DEBUG}}\ntargets: {billing.charge: {}}",
        good="logging: {levels: {billing.charge: DEBUG}}\ntargets: {billing.charge: {}}",
        check=_level_of_no_target,
    ),
    Rule(
        id="PL706",
        name="Log level that holds anyway",
        severity=ProblemSeverity.NOTE,
        why="It changes nothing, and hides which levels are meant to differ.",
        mend="Leave it out.",
        bad="logging: {level: WARNING, levels: {lm_studio.chat: WARNING}}",
        good="logging: {level: WARNING, levels: {lm_studio.chat: DEBUG}}",
        check=_level_that_holds_anyway,
    ),
)
