"""What the packages of the language and the engine export: what they import for it, and nothing else."""

from __future__ import annotations

import ast
import importlib
import inspect

import pytest

PACKAGES = [
    "errors",
    "events",
    "monitoring",
    "monitoring.logs",
    "opentelemetry",
    "policy",
    "policy.bounds",
    "policy.kinds",
    "policy.lint",
    "resilience",
    "runtime",
]


@pytest.mark.parametrize("name", PACKAGES)
def test_what_is_imported_is_exported(name):
    """
    ``__all__`` names what the package imports, each name once, and all of it is there.
    """
    package = importlib.import_module(f"pixel_llm.{name}")
    imported = [
        alias.asname or alias.name
        for statement in ast.parse(inspect.getsource(package)).body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    ]

    assert sorted(imported) == sorted(package.__all__)
    assert all(hasattr(package, exported) for exported in package.__all__)
