"""How long people wait for the command line and the import."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.measure import commands, peak_memory

_BIN = Path(sys.executable).parent
_VALIDATE = (str(_BIN / "pixel-llm"), "policy", "validate")

#: So many targets stand in the generated files.
COUNTS = (1000, 2000, 4000)


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
            "pixel-llm policy validate (schema, meaning and lint)": [*_VALIDATE, "policies"],
        }
    )


def many_targets() -> dict[str, float]:
    """Seconds to check a file of many targets."""
    with tempfile.TemporaryDirectory() as folder:
        return commands({f"{count} targets": [*_VALIDATE, _write(Path(folder), count)] for count in COUNTS}, rounds=3)


def memory() -> dict[str, float]:
    """The most memory in bytes that checking takes."""
    with tempfile.TemporaryDirectory() as folder:
        return {
            "the five shipped profiles": peak_memory(*_VALIDATE, "policies"),
            **{f"{count} targets": peak_memory(*_VALIDATE, _write(Path(folder), count)) for count in COUNTS},
        }


def _write(folder: Path, count: int) -> str:
    """A file of *count* targets, each with all its layers; its name."""
    file = folder / f"{count}.yaml"
    file.write_text("version: 1\ndescription: Many targets.\ntargets:\n" + "".join(map(_target, range(count))))
    return str(file)


def _target(number: int) -> str:
    return f"""\
  shop.part{number}:
    deadline: 45s
    idempotent: true
    fallback: [none]
    timeout: {{attempt: 10s, connect: 2s}}
    retry: {{max_attempts: 3, initial_delay: 500ms, retry_after_max: 5s}}
    circuit_breaker: {{failure_threshold: 5, cooldown: 30s}}
"""
