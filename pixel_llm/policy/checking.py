"""Checking policy files: everything that is wrong with them, and everything that looks like a mistake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pixel_llm.errors import PolicyError, Problem, ProblemSeverity
from pixel_llm.policy.inheritance import Sources
from pixel_llm.policy.lint import RULES, Suppressions
from pixel_llm.policy.loading import LoadedPolicy, load_from
from pixel_llm.policy.locating import neighbours
from pixel_llm.policy.nodes import Node


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of a check. Immutable. *problems* are in the order of their places."""

    files: tuple[Path, ...]
    problems: tuple[Problem, ...]

    def count(self, severity: ProblemSeverity) -> int:
        """How many problems are of *severity*."""
        return sum(problem.severity is severity for problem in self.problems)

    def fails(self, *, strict: bool = False) -> bool:
        """True if there are errors or, with *strict*, warnings."""
        bad = {ProblemSeverity.ERROR} | ({ProblemSeverity.WARNING} if strict else set())
        return any(problem.severity in bad for problem in self.problems)


def check_files(
    files: Sequence[Path],
    *,
    overlays: Iterable[str | Path] | None = None,
    variables: Mapping[str, str] | None = None,
    given: Mapping[Path, bytes] | None = None,
) -> CheckReport:
    """
    Check each of *files* with everything it extends.

    Those in *given* are not read; they hold what stands there. A file that is wrong is not linted. What stands in a
    file that several others extend is reported once.
    """
    overlays = None if overlays is None else list(overlays)
    given = given or {}
    problems: dict[Problem, None] = {}
    taken: dict[Path, tuple[Node, list[Problem]]] = {}
    seen: set[Path] = set()
    suppressions = Suppressions(rule.id for rule in RULES)
    for file in files:
        try:
            sources = Sources(neighbours(file), taken=taken)
            if file in given:
                sources.add(file, given[file])
            loaded = load_from(sources, file, overlays=overlays, variables=variables)
        except PolicyError as error:
            problems.update(dict.fromkeys(error.problems))
            continue
        for source in loaded.sources:
            if source not in seen:
                seen.add(source)
                suppressions.read(source, given.get(source))
        problems.update(dict.fromkeys(lint(loaded)))
    kept = [*suppressions.filter(problems), *suppressions.problems(files)]
    return CheckReport(tuple(files), tuple(sorted(kept)))


def lint(loaded: LoadedPolicy) -> list[Problem]:
    """What looks like a mistake in a policy that is valid."""
    return [problem for rule in RULES for problem in rule.problems(loaded)]
