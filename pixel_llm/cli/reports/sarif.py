"""SARIF 2.1.0 (OASIS), which code-scanning services read."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from importlib import metadata
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from pixel_llm.cli.reports.places import from_here
from pixel_llm.cli.terminal import json_text
from pixel_llm.errors import Problem, ProblemSeverity
from pixel_llm.policy.checking import CheckReport
from pixel_llm.policy.lint import RULES, Rule

_LEVELS = {ProblemSeverity.ERROR: "error", ProblemSeverity.WARNING: "warning", ProblemSeverity.NOTE: "note"}

_INDEX = {rule.id: index for index, rule in enumerate(RULES)}


def as_sarif(report: CheckReport) -> str:
    """One run with every rule and every result."""
    driver = {
        "name": "pixel-llm",
        "version": metadata.version("pixel-llm"),
        "rules": [_rule(rule) for rule in RULES],
    }
    seen: Counter[str] = Counter()
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(problem, seen) for problem in report.problems],
    }
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json_text(log, indent=2)


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.name},
        "fullDescription": {"text": rule.why},
        "help": {"text": rule.mend},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }


def _result(problem: Problem, seen: Counter[str]) -> dict[str, Any]:
    place = problem.place
    location: dict[str, Any] = {"artifactLocation": _artifact(place.file)}
    if place.line:
        location["region"] = {"startLine": place.line, "startColumn": place.column}
    fingerprint = _fingerprint(problem)
    seen[fingerprint] += 1
    return {
        "ruleId": problem.rule,
        "ruleIndex": _INDEX[problem.rule],
        "level": _LEVELS[problem.severity],
        "message": {"text": f"{problem.path}: {problem.message}" if problem.path else problem.message},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {"pixelLlmProblem/v1": f"{fingerprint}:{seen[fingerprint]}"},
    }


def _artifact(file: str) -> dict[str, str]:
    path = PurePath(from_here(file))
    if path.is_absolute():
        return {"uri": path.as_uri()}
    return {"uri": quote(path.as_posix()), "uriBaseId": "%SRCROOT%"}


def _fingerprint(problem: Problem) -> str:
    """Stays the same while lines move: the rule, the file, and the path or, where there is none, the message."""
    parts = (
        problem.rule,
        from_here(problem.place.file),
        problem.path or re.sub(r"\bline \d+", "line", problem.message),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
