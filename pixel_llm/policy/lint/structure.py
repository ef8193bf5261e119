"""Rules about the parts of a policy: templates, names of targets, descriptions, parents, names of errors."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.lint.origins import is_own, lineage, own_source, parents_of
from pixel_llm.policy.lint.rule import Finding, Rule, is_written, key_place, look_up, targets
from pixel_llm.policy.lint.samples import chat
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.nodes import Path
from pixel_llm.policy.sections.matching import ErrorMatcher
from pixel_llm.policy.sections.target import SYSTEM_PREFIXES, SYSTEM_TARGETS, is_system_name


def _unused_template(loaded: LoadedPolicy) -> Iterator[Finding]:
    section = look_up(loaded.written, ("templates",))
    for layer, templates in section.value.items() if section is not None else ():
        for name, template in templates.value.items() if isinstance(templates.value, dict) else ():
            place = templates.place_of_key(name)
            # A parent may keep templates for whoever extends it.
            if template.value is not None and (layer, name) not in loaded.used_templates and is_own(loaded, place):
                yield Finding(
                    ("templates", layer, name),
                    f"no target takes this template: write `{layer}: {name}` where it is meant, or leave it out",
                    place,
                )


def _like_a_system_target(loaded: LoadedPolicy) -> Iterator[Finding]:
    for name in loaded.config.targets:
        if is_system_name(name):
            continue
        meant = _closest(name)
        if meant is not None:
            yield Finding(
                ("targets", name),
                f'the system never calls {name!r}, so this guards nothing of it; did you mean "{meant}"?',
                key_place(loaded.document, ("targets", name)),
            )


def _closest(name: str) -> str | None:
    """The system's target, or pattern for its targets, that *name* nearly is."""
    plain = _plain(name.removesuffix(".*"))
    return next((known for known, other in _OF_THE_SYSTEM.items() if _one_slip_apart(plain, other)), None)


def _one_slip_apart(one: str, other: str) -> bool:
    """True if one character more, less, changed or swapped with its neighbour makes *one* the *other*."""
    if abs(len(one) - len(other)) > 1:
        return False
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    rest, other_rest = one[same:], other[same:]
    return (
        rest[1:] == other_rest
        or rest == other_rest[1:]
        or rest[1:] == other_rest[1:]
        or (rest[:2] == other_rest[1::-1] and rest[2:] == other_rest[2:])
    )


def _plain(name: str) -> str:
    return re.sub(r"[-_.]", "", name)


def _no_description(loaded: LoadedPolicy) -> Iterator[Finding]:
    own = own_source(loaded)
    description = look_up(own, ("description",))
    if description is None or not str(description.value).strip():
        yield Finding((), "does not say what it is for: add a `description`, in a sentence", own.place)


def _parent_of_another(loaded: LoadedPolicy) -> Iterator[Finding]:
    parents = parents_of(own_source(loaded))
    if len(parents) < 2:
        return
    files = {source.stem: source for source in loaded.sources if source != loaded.file}
    for index, node in enumerate(parents):
        for position, other in enumerate(parents):
            if node.value == other.value or node.value not in files or other.value not in files:
                continue
            if files[node.value] in lineage(loaded, files[other.value]):
                effect = "undoes what that one changes" if index > position else "changes nothing"
                yield Finding(
                    ("extends", index),
                    f"{other.value} builds on {node.value} itself; naming it again {effect}: leave it out",
                    node.place,
                )


def _covered_names(loaded: LoadedPolicy) -> Iterator[Finding]:
    for path, matcher in _matchers(loaded):
        for name, category in _covered(matcher):
            yield Finding(path, f"{name} is one of {category} anyway: leave it out")


def _matchers(loaded: LoadedPolicy) -> Iterator[tuple[Path, ErrorMatcher]]:
    """Every list of errors that is written, with what it names."""
    for name, target in targets(loaded):
        lists: list[tuple[Path, ErrorMatcher]] = []
        if target.retry is not None:
            lists.append((("targets", name, "retry", "retry_on"), target.retry.retry_on))
        if target.circuit_breaker is not None:
            lists.append((("targets", name, "circuit_breaker", "count"), target.circuit_breaker.count))
        for index, step in enumerate(target.fallback or ()):
            lists.append((("targets", name, "fallback", index, "when"), step.when))
        yield from ((path, matcher) for path, matcher in lists if is_written(loaded, path))


def _covered(matcher: ErrorMatcher) -> Iterator[tuple[str, str]]:
    for code in sorted(matcher.codes):
        # In retry_on a category stands for those of its errors that may go away: no others can be named there.
        if code.info.category in matcher.categories:
            yield code, code.info.category
    for status in sorted(matcher.statuses):
        if not status.endswith("xx") and f"{status[0]}xx" in matcher.statuses:
            yield status, f"{status[0]}xx"


#: Names of the system, as they are written when the separators are mistaken. A bare prefix stands for its pattern.
_OF_THE_SYSTEM = {
    **{known: _plain(known) for known in SYSTEM_TARGETS},
    **{f"{prefix}*": _plain(prefix) for prefix in SYSTEM_PREFIXES},
}

RULES = (
    Rule(
        id="PL501",
        name="A template that no target takes",
        severity=ProblemSeverity.WARNING,
        why="Its settings do nothing, although they read as if they did.",
        mend="Take it, by its name, where it is meant; or leave it out. A profile that keeps templates for others "
        "says so in an ignore comment.",
        bad="templates: {retry: {patient: {max_attempts: 5}}}\n" + chat("retry: {max_attempts: 2}"),
        good="templates: {retry: {patient: {max_attempts: 5}}}\n" + chat("retry: patient"),
        check=_unused_template,
    ),
    Rule(
        id="PL502",
        name="A target of your own that looks like one of the system's",
        severity=ProblemSeverity.WARNING,
        why="Names outside the system's prefixes are yours, so a misspelt prefix is no error: it guards a target that "
        "nothing ever calls, and leaves the real one unguarded.",
        mend="Use the name that the message suggests; or choose one that is less alike.",
        bad="targets: {lmstudio.chat: {timeout: 30s}}",
        good=chat("timeout: 30s"),
        check=_like_a_system_target,
    ),
    Rule(
        id="PL506",
        name="No description",
        severity=ProblemSeverity.NOTE,
        why="Whoever chooses a profile sees its name and its description, in `pixel-llm policy list`. A description "
        "is not inherited in spirit: what a parent is for is not what this one is for.",
        mend="Say in a sentence who this profile is for.",
        bad="logging: {level: INFO}",
        good="description: Captions for people who wait.\nlogging: {level: INFO}",
        check=_no_description,
    ),
    Rule(
        id="PL508",
        name="An error that another name in the list covers",
        severity=ProblemSeverity.NOTE,
        why="A category stands for all its codes, `5xx` for every status from 500 to 599. The second name reads as if "
        "it added something.",
        mend="Leave out the narrower name; or, if only that one is meant, the wider.",
        bad=chat("circuit_breaker: {count: [TRANSIENT, ERR_CONN_REFUSED]}"),
        good=chat("circuit_breaker: {count: [TRANSIENT, ERR_API_RATE_LIMIT]}"),
        check=_covered_names,
    ),
    Rule(
        id="PL509",
        name="A parent that another parent builds on",
        severity=ProblemSeverity.WARNING,
        why="Later parents are laid over earlier ones, with all that they extend. The same profile again changes "
        "nothing before the one that builds on it, and undoes that one's changes after it.",
        mend="Name only the profile that builds on the other.",
        bad="extends: [production, basic]",
        good="extends: production",
        check=_parent_of_another,
    ),
)
