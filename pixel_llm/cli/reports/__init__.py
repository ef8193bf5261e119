"""How the result of a check is written: for people, programs, GitHub's annotations, and SARIF viewers."""

from __future__ import annotations

import importlib

from pixel_llm.policy.checking import CheckReport

#: Where each is written. Only the one that is asked for is imported: the check itself takes less time than some.
_WRITERS = {
    "text": ("plain", "as_text"),
    "json": ("plain", "as_json"),
    "github": ("github", "as_github"),
    "sarif": ("sarif", "as_sarif"),
}

REPORTS = tuple(_WRITERS)


def render(report: CheckReport, style: str) -> str:
    """*report* in one of :data:`REPORTS`."""
    module, function = _WRITERS[style]
    return str(getattr(importlib.import_module(f"{__name__}.{module}"), function)(report))
