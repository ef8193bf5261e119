"""
The real ``check-jsonschema``, run on the shipped schema, gives the verdict of our own schema step.

Files that our reader refuses are not compared: what is wrong with them is no matter of a schema. Of these,
check-jsonschema, which reads with ruamel.yaml, takes look-alikes (``yes``, ``012``, ``1e3``) one way or the
other, knows tags, turns keys that are no text into text, and ends in a traceback where an alias holds itself.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pixel_llm.errors import PolicyError
from pixel_llm.policy import shipped_folder
from pixel_llm.policy.nodes import Node
from pixel_llm.policy.reading import read_file
from pixel_llm.policy.schema import SCHEMA_FILE, check_source

CORPUS = Path(__file__).parent.parent / "policies"
SCHEMA = shipped_folder("schemas") / SCHEMA_FILE
TOOL = shutil.which("check-jsonschema", path=str(Path(sys.executable).parent))


def read(path: Path) -> Node | None:
    try:
        return read_file(path)
    except PolicyError:
        return None


FILES = sorted(path for folder in (CORPUS, shipped_folder("policies")) for path in folder.rglob("*.y*ml"))
READABLE = {path: document for path in FILES if (document := read(path)) is not None}


@pytest.fixture(scope="module")
def refused() -> set[Path]:
    """The files that check-jsonschema refuses, all of them asked about at once."""
    assert TOOL is not None, "check-jsonschema is a part of pixel-llm[dev]"
    command = [TOOL, "--output-format", "JSON", "-v", "--schemafile", str(SCHEMA), *map(str, READABLE)]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)

    assert [] == report["parse_errors"]
    assert len(READABLE) == len(report["successes"]) + len({error["filename"] for error in report["errors"]})

    return {Path(error["filename"]) for error in report["errors"]}


class TestVerdict:
    @pytest.mark.parametrize(
        "path", READABLE, ids=lambda path: str(path.relative_to(path.parents[2])).removesuffix(".yaml")
    )
    def test_is_ours(self, path, refused):
        """
        What our schema step finds wrong, check-jsonschema refuses; what it finds right, it accepts.
        """
        assert (check_source(READABLE[path]) != []) == (path in refused)

    def test_is_not_always_the_same(self, refused):
        """
        The corpus has plenty of both.
        """
        assert len(refused) > 50
        assert len(READABLE) - len(refused) > 50
