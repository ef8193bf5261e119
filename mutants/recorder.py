"""A pytest plugin that writes how long each test took, and which ones did not pass."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

_seconds: dict[str, float] = defaultdict(float)
_not_passed: set[str] = set()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add a phase of a test."""
    _seconds[report.nodeid] += report.duration
    if not report.passed:
        _not_passed.add(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write it down, once: with xdist, in the process that has seen all reports."""
    if "PYTEST_XDIST_WORKER" not in os.environ and not hasattr(session.config, "workerinput"):
        text = json.dumps({"seconds": _seconds, "not_passed": sorted(_not_passed)})
        Path(os.environ["MUTANTS_SECONDS"]).write_text(text, "utf-8")
