"""Lines for people, one object for programs."""

from __future__ import annotations

from pathlib import Path

from pixel_llm.cli.terminal import json_text
from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.checking import CheckReport


def as_text(report: CheckReport) -> str:
    """A line a problem, and one that counts them."""
    lines = [str(problem) for problem in report.problems]
    count = len(report.files)
    files = f"{count} polic{'y' if count == 1 else 'ies'}"
    folders = {str(Path(file).parent) for file in report.files}
    where = f" in {folders.pop()}" if count > 1 and len(folders) == 1 and folders != {"."} else ""
    lines.append(f"{files}{where}: {_tally(report)}")
    return "\n".join(lines)


def _tally(report: CheckReport) -> str:
    names = ((ProblemSeverity.ERROR, "error"), (ProblemSeverity.WARNING, "warning"), (ProblemSeverity.NOTE, "note"))
    counts = [(report.count(severity), name) for severity, name in names]
    return ", ".join(f"{count} {name}{'s' * (count > 1)}" for count, name in counts if count) or "no problems"


def as_json(report: CheckReport) -> str:
    """One object: the files, and the problems with their places as numbers."""
    problems = [
        {
            "file": problem.place.file,
            "line": problem.place.line,
            "column": problem.place.column,
            "path": problem.path,
            "message": problem.message,
            "rule": problem.rule,
            "severity": problem.severity.value,
        }
        for problem in report.problems
    ]
    return json_text({"files": list(map(str, report.files)), "problems": problems}, indent=2)
