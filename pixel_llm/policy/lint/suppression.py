"""``# pixel-llm: ignore PL101 -- reason`` in a policy file: findings in its line, or in the next one, are left out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pixel_llm.errors import Place, Problem, ProblemSeverity

_COMMENT = re.compile(r"(?P<before>^|.*\s)#\s*pixel-llm:\s*ignore\b(?P<rest>.*)$")
_REST = re.compile(r"\s+(?P<ids>PL\d{3}(?:\s*,\s*PL\d{3})*)\s*(?:--\s*(?P<reason>\S.*))?$")

WITHOUT_REASON = "PL901"
WITHOUT_EFFECT = "PL902"
NOT_UNDERSTOOD = "PL903"


@dataclass(slots=True)
class Suppression:
    """One comment. It leaves out the findings of *rules* in *line*; *used* are those that it has left out."""

    place: Place
    line: int
    rules: tuple[str, ...]
    reason: str | None
    used: set[str] = field(default_factory=set)

    def covers(self, problem: Problem) -> bool:
        """True if *problem* is left out; notes that it was."""
        here = problem.place.file == self.place.file and problem.place.line == self.line
        if here and problem.rule in self.rules and problem.severity is not ProblemSeverity.ERROR:
            self.used.add(problem.rule)
            return True
        return False


class Suppressions:
    """The comments of several files."""

    def __init__(self, known_rules: Iterable[str]) -> None:
        self._known = tuple(known_rules)
        self._suppressions: list[Suppression] = []
        self._by_line: dict[tuple[str, int], list[Suppression]] = {}
        self._problems: list[Problem] = []

    def read(self, file: Path, data: bytes | None = None) -> None:
        """Take in the comments of *file*, which holds *data*, if that is not to be read."""
        data = file.read_bytes() if data is None else data
        lines = data.decode("utf-8-sig", errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            if (match := _COMMENT.match(line)) is not None:
                place = Place(str(file), number, len(match["before"]) + 1)
                alone = not match["before"].strip()
                self._take(place, match["rest"], _line_below(lines, number) if alone else number)

    def filter(self, problems: Iterable[Problem]) -> list[Problem]:
        """*problems* without those that a comment leaves out. Errors can't be left out."""
        return [problem for problem in problems if not self._covered(problem)]

    def _covered(self, problem: Problem) -> bool:
        here = self._by_line.get((problem.place.file, problem.place.line), [])
        covering = [suppression.covers(problem) for suppression in here]  # each notes that it was used
        return any(covering)

    def problems(self, checked: Iterable[Path] | None = None) -> Iterator[Problem]:
        """
        What is wrong with the comments themselves, once everything has been filtered.

        With *checked*, the files that were checked as profiles: only in those a comment without effect is
        reported. In a file that they merely extend, it may have its effect when that one is checked itself.
        """
        yield from self._problems
        files = None if checked is None else set(map(str, checked))
        for suppression in self._suppressions:
            for rule in suppression.rules:
                if rule not in suppression.used and (files is None or suppression.place.file in files):
                    yield _problem(
                        suppression.place, f"{rule} is not found here, so there is nothing to ignore", WITHOUT_EFFECT
                    )

    def _take(self, place: Place, rest: str, line: int) -> None:
        match = _REST.match(rest)
        if match is None:
            message = "is not understood: write `# pixel-llm: ignore PL101 -- why`"
            self._problems.append(_problem(place, message, NOT_UNDERSTOOD))
            return
        rules = tuple(re.findall(r"PL\d{3}", match["ids"]))
        for rule in rules:
            if rule not in self._known:
                message = f"there is no rule {rule}"
                self._problems.append(_problem(place, message, NOT_UNDERSTOOD))
        if match["reason"] is None:
            message = f"says no reason: write `# pixel-llm: ignore {match['ids']} -- why`"
            self._problems.append(_problem(place, message, WITHOUT_REASON))
        known = tuple(rule for rule in rules if rule in self._known)
        suppression = Suppression(place, line, known, match["reason"])
        self._suppressions.append(suppression)
        self._by_line.setdefault((place.file, line), []).append(suppression)


def _line_below(lines: Sequence[str], number: int) -> int:
    """The line that a comment alone in line *number* is about: the next one that is no comment."""
    below = (index for index in range(number, len(lines)) if lines[index].strip() and lines[index].strip()[0] != "#")
    return next(below, number) + 1


def _problem(place: Place, message: str, rule: str) -> Problem:
    return Problem(place, "", f"the ignore comment: {message}", rule, ProblemSeverity.WARNING)
