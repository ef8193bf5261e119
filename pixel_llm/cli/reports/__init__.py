"""How the result of a check is written: for people, programs, GitHub's annotations, and SARIF viewers."""

from __future__ import annotations

from pixel_llm.cli.reports.github import as_github
from pixel_llm.cli.reports.plain import as_json, as_text
from pixel_llm.cli.reports.sarif import as_sarif
from pixel_llm.policy.checking import CheckReport

_RENDER = {"text": as_text, "json": as_json, "github": as_github, "sarif": as_sarif}

REPORTS = tuple(_RENDER)


def render(report: CheckReport, style: str) -> str:
    """*report* in one of :data:`REPORTS`."""
    return _RENDER[style](report)
