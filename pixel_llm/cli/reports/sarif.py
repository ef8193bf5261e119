"""SARIF 2.1.0 (OASIS), which code-scanning services read."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from pixel_llm.errors import Problem, ProblemSeverity
from pixel_llm.policy.checking import CheckReport
from pixel_llm.policy.lint import RULES, Rule

_LEVELS = {ProblemSeverity.ERROR: "error", ProblemSeverity.WARNING: "warning", ProblemSeverity.NOTE: "note"}


def as_sarif(report: CheckReport) -> str:
    """One run with every rule and every result."""
    driver = {
        "name": "pixel-llm",
        "version": metadata.version("pixel-llm"),
        "rules": [_rule(rule) for rule in RULES],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(problem) for problem in report.problems],
    }
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=False)


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.name},
        "fullDescription": {"text": rule.why},
        "help": {"text": rule.mend},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }


def _result(problem: Problem) -> dict[str, Any]:
    place = problem.place
    location: dict[str, Any] = {"artifactLocation": {"uri": _uri(place.file)}}
    if place.line:
        location["region"] = {"startLine": place.line, "startColumn": place.column}
    return {
        "ruleId": problem.rule,
        "level": _LEVELS[problem.severity],
        "message": {"text": f"{problem.path}: {problem.message}" if problem.path else problem.message},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {"pixelLlmProblem/v1": _fingerprint(problem)},
    }


def _uri(file: str) -> str:
    path = PurePath(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def _fingerprint(problem: Problem) -> str:
    """Stays the same while lines move: the rule, the file, the path and, where there is no path, the message."""
    parts = (problem.rule, problem.place.file, problem.path or problem.message)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
