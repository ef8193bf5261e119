"""How long people wait for the command line and the import."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.measure import commands

_BIN = Path(sys.executable).parent


def importing() -> dict[str, float]:
    """Seconds for a fresh interpreter."""
    return commands(
        {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import pixel_llm'": [sys.executable, "-c", "import pixel_llm"],
            "python -c 'from pixel_llm import load_policies'": [
                sys.executable,
                "-c",
                "from pixel_llm import load_policies",
            ],
        }
    )


def validating() -> dict[str, float]:
    """Seconds to check the five shipped profiles."""
    schema = "schemas/policy.schema.json"
    files = [str(path) for path in sorted(Path("policies").glob("*.yaml"))]
    return commands(
        {
            "check-jsonschema (schema alone)": [str(_BIN / "check-jsonschema"), "--schemafile", schema, *files],
            "pixel-llm policy validate (schema and meaning)": [str(_BIN / "pixel-llm"), "policy", "validate", *files],
        }
    )
