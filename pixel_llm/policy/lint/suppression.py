"""``# pixel-llm: ignore PL101 -- reason`` in a policy file: findings in its line, or in the next one, are left out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pixel_llm.errors import Place, Problem, ProblemSeverity
from pixel_llm.policy.suggestions import suggestion

_COMMENT = re.compile(r"(?P<before>^|.*\s)#\s*pixel-llm:\s*ignore\b(?P<rest>.*)$")
_REST = re.compile(r"\s+(?P<ids>PL\d{3}(?:\s*,\s*PL\d{3})*)\s*(?:--\s*(?P<reason>\S.*))?$")

WITHOUT_REASON = "PL901"
WITHOUT_EFFECT = "PL902"
NOT_UNDERSTOOD = "PL903"


@dataclass(slots=True)
class Suppression:
    """One comment. *lines* are those whose findings of *rules* it leaves out; *used* are those that it has."""

    place: Place
    lines: tuple[int, ...]
    rules: tuple[str, ...]
    reason: str | None
    used: set[str] = field(default_factory=set)

    def covers(self, problem: Problem) -> bool:
        """True if *problem* is left out; notes that it was."""
        here = problem.place.file == self.place.file and problem.place.line in self.lines
        if here and problem.rule in self.rules and problem.severity is not ProblemSeverity.ERROR:
            self.used.add(problem.rule)
            return True
        return False


class Suppressions:
    """The comments of several files."""

    def __init__(self, known_rules: Iterable[str]) -> None:
        self._known = tuple(known_rules)
        self._suppressions: list[Suppression] = []
        self._problems: list[Problem] = []

    def read(self, file: Path) -> None:
        """Take in the comments of *file*."""
        for number, line in enumerate(file.read_text("utf-8-sig", errors="replace").splitlines(), 1):
            if (match := _COMMENT.match(line)) is not None:
                place = Place(str(file), number, len(match["before"]) + 1)
                alone = not match["before"].strip()
                self._take(place, match["rest"], (number + 1,) if alone else (number,))

    def filter(self, problems: Iterable[Problem]) -> list[Problem]:
        """*problems* without those that a comment leaves out. Errors can't be left out."""
        return [problem for problem in problems if not self._covered(problem)]

    def _covered(self, problem: Problem) -> bool:
        covering = [suppression.covers(problem) for suppression in self._suppressions]  # each notes that it was used
        return any(covering)

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the comments themselves, once everything has been filtered."""
        yield from self._problems
        for suppression in self._suppressions:
            for rule in suppression.rules:
                if rule not in suppression.used:
                    yield _problem(
                        suppression.place, f"{rule} is not found here, so there is nothing to ignore", WITHOUT_EFFECT
                    )

    def _take(self, place: Place, rest: str, lines: tuple[int, ...]) -> None:
        match = _REST.match(rest)
        if match is None:
            message = "is not understood: write `# pixel-llm: ignore PL101 -- why`"
            self._problems.append(_problem(place, message, NOT_UNDERSTOOD))
            return
        rules = tuple(re.findall(r"PL\d{3}", match["ids"]))
        for rule in rules:
            if rule not in self._known:
                message = f"there is no rule {rule}{suggestion(rule, self._known)}"
                self._problems.append(_problem(place, message, NOT_UNDERSTOOD))
        if match["reason"] is None:
            message = f"says no reason: write `# pixel-llm: ignore {match['ids']} -- why`"
            self._problems.append(_problem(place, message, WITHOUT_REASON))
        known = tuple(rule for rule in rules if rule in self._known)
        self._suppressions.append(Suppression(place, lines, known, match["reason"]))


def _problem(place: Place, message: str, rule: str) -> Problem:
    return Problem(place, "", f"the ignore comment: {message}", rule, ProblemSeverity.WARNING)
