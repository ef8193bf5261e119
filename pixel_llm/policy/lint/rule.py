"""What a rule is: an id that stays, a check, and the words for its page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pixel_llm.errors import Place, Problem, ProblemSeverity
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.nodes import Node, Path, format_path
from pixel_llm.policy.sections.target import TargetPolicy, is_pattern, is_system_name


@dataclass(frozen=True, slots=True)
class Finding:
    """A place where a rule is broken. *place* is where *path* stands unless a key itself is meant."""

    path: Path
    message: str
    place: Place | None = None


#: Looks at a loaded policy, which is valid, and yields what it finds.
Check = Callable[[LoadedPolicy], Iterator[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    One rule of the linter.

    Attributes:
        id: ``PL101`` and so on. It never changes its meaning, and is never given out again.
        name: A few words, as a heading.
        severity: What :class:`ProblemSeverity` says.
        why: Why it matters, in a sentence or two.
        mend: What to do about it.
        bad: A policy that breaks the rule; a test shows that it does.
        good: The same, mended; a test shows that it passes.
        check: Finds the places; None for what loading a policy finds by itself.
    """

    id: str
    name: str
    severity: ProblemSeverity
    why: str
    mend: str
    bad: str
    good: str
    check: Check | None = None

    def problems(self, loaded: LoadedPolicy) -> Iterator[Problem]:
        """
        What this rule finds in *loaded*, as problems with places.

        What stands in a pattern, a template or `defaults` is said once, not for every target that takes it.
        """
        seen: set[tuple[Place, str]] = set()
        for finding in self.check(loaded) if self.check is not None else ():
            place = finding.place or _place_of(loaded, finding.path)
            if (place, finding.message) not in seen:
                seen.add((place, finding.message))
                yield Problem(place, format_path(finding.path), finding.message, self.id, self.severity)


def targets(loaded: LoadedPolicy) -> Iterator[tuple[str, TargetPolicy]]:
    """
    Every target of the policy, with its layers.

    Patterns too, since the program may have targets that only they cover; but not those under the
    system's prefixes, where every target is known.
    """
    for name, target in loaded.config.targets.items():
        if not (is_pattern(name) and is_system_name(name)):
            yield name, target


def look_up(node: Node | None, path: Path) -> Node | None:
    """What stands at *path* below *node*; None if nothing does, or if null has removed it."""
    for part in path:
        node = _child(node, part)
    return node if node is not None and node.value is not None else None


def deepest(node: Node, path: Path) -> Node:
    """What stands at *path* below *node*, or as far on the way there as there is something."""
    for part in path:
        child = _child(node, part)
        if child is None:
            return node
        node = child
    return node


def _child(node: Node | None, part: str | int) -> Node | None:
    value = None if node is None else node.value
    if isinstance(value, dict):
        return value.get(part)
    return value[part] if isinstance(value, list) and isinstance(part, int) and part < len(value) else None


def is_written(loaded: LoadedPolicy, path: Path) -> bool:
    """True if something stands at *path* in the merged policy, rather than a default of the language."""
    return look_up(loaded.document, path) is not None


def key_place(document: Node, path: Path) -> Place:
    """Where the last key of *path* stands in *document*."""
    *above, key = path
    return document.find(above).place_of_key(str(key))


def _place_of(loaded: LoadedPolicy, path: Path) -> Place:
    return deepest(loaded.document, path).place
