"""GitHub's workflow commands, which become annotations of a pull request's lines."""

from __future__ import annotations

from pixel_llm.cli.reports.places import from_here
from pixel_llm.errors import Problem, ProblemSeverity
from pixel_llm.policy.checking import CheckReport

_COMMANDS = {ProblemSeverity.ERROR: "error", ProblemSeverity.WARNING: "warning", ProblemSeverity.NOTE: "notice"}


def as_github(report: CheckReport) -> str:
    """A workflow command a problem; nothing if there is none."""
    return "\n".join(_annotation(problem) for problem in report.problems)


def _annotation(problem: Problem) -> str:
    place = problem.place
    properties = {"file": from_here(place.file), "title": f"pixel-llm {problem.rule}"}
    if place.line:
        properties |= {"line": str(place.line), "col": str(place.column)}
    listed = ",".join(f"{name}={_escape(value, ':,')}" for name, value in properties.items())
    message = f"{problem.path}: {problem.message}" if problem.path else problem.message
    return f"::{_COMMANDS[problem.severity]} {listed}::{_escape(message)}"


def _escape(text: str, more: str = "") -> str:
    """As the runner's toolkit does it: percent signs, line ends and, in properties, separators."""
    for char in f"%\r\n{more}":
        text = text.replace(char, f"%{ord(char):02X}")
    return text
