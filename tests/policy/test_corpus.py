"""
Every file in ``tests/policies`` is a test.

A file in ``valid`` loads. A file in ``invalid`` has the whole message it fails with
beside it, in ``name.expected``. Where a case needs more than one file, it is a folder whose
``policy.yaml`` is the case: the parents it extends lie beside it, files called ``overlay*.yaml``
are laid over it in the order of their names, and ``variables.env`` is its env file.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from pixel_llm.errors import PolicyError
from pixel_llm.policy import LoadedPolicy, load_policy_file, shipped_folder
from pixel_llm.policy.env_file import read_env_file
from pixel_llm.policy.reading import read_file
from pixel_llm.policy.schema import SCHEMA_FILE, check_source

FOLDER = Path(__file__).parent.parent / "policies"


def cases(kind: str) -> list[Path]:
    folder = FOLDER / kind
    return sorted(path for pattern in ("*.yaml", "*/policy.yaml") for path in folder.glob(pattern))


VALID, INVALID = cases("valid"), cases("invalid")

#: What the files see as their environment.
VARIABLES = {
    "EMPTY": "",
    "FRACTION": "0.5",
    "GITHUB_TOKEN": "ghp-of-the-tests",
    "LM_STUDIO_API_KEY": "sk-of-the-tests",
    "NUMBER": "30",
    "TEMPERATURE": "0.5",
    "TRUE_IN_CAPITALS": "TRUE",
    "VENDOR": "acme",
    "WORD": "many",
    "ZERO": "0",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(FOLDER).with_suffix("")).removesuffix("/policy")


def load_case(path: Path) -> LoadedPolicy:
    """Load the case *path*, which lies in the working directory, with what lies beside it."""
    alone = path.name != "policy.yaml"
    overlays = [] if alone else sorted(path.parent.glob("overlay*.yaml"))
    env_file = path.parent / "variables.env"
    variables = VARIABLES if alone or not env_file.exists() else {**VARIABLES, **read_env_file(env_file)}
    return load_policy_file(path, overlays=overlays, variables=variables)


@pytest.mark.parametrize("path", VALID, ids=name_of)
class TestValidPolicies:
    def test_loads(self, path, monkeypatch):
        """
        A valid policy loads without a problem.
        """
        monkeypatch.chdir(path.parent)

        assert path.stem == load_case(Path(path.name)).profile

    def test_every_reader_reads_the_same(self, path):
        """
        What is accepted means the same to readers of YAML 1.1, such as PyYAML.
        """
        assert yaml.safe_load(path.read_bytes()) == read_file(path).plain()


@pytest.mark.parametrize("path", INVALID, ids=name_of)
class TestInvalidPolicies:
    def test_message(self, path, monkeypatch):
        """
        An invalid policy fails with exactly the message beside it.
        """
        expected = path.with_suffix(".expected").read_text("utf-8").rstrip("\n")
        if "is not YAML" in expected and not yaml.__with_libyaml__:
            pytest.skip("the text after “is not YAML” is libyaml's")
        monkeypatch.chdir(path.parent)

        with pytest.raises(PolicyError) as caught:
            load_case(Path(path.name))

        assert expected == str(caught.value)

    def test_no_secret_in_the_message(self, path):
        """
        No message repeats what a variable named like a secret holds, or what stands where a key belongs.
        """
        text = path.with_suffix(".expected").read_text("utf-8")

        assert "of-the-tests" not in text
        assert "of-nobody" not in text


class TestCollection:
    def test_nothing_is_left_over(self):
        """
        Every expected message belongs to a policy, and no folder is without a case; there are plenty of both.
        """
        expected = set(FOLDER.rglob("*.expected"))
        folders = {path for path in (FOLDER / "invalid").iterdir() if path.is_dir()}

        assert len(VALID) > 50
        assert len(INVALID) > 150
        assert expected == {path.with_suffix(".expected") for path in INVALID}
        assert folders == {path.parent for path in INVALID} - {FOLDER / "invalid"}


def readable(path: Path) -> bool:
    try:
        read_file(path)
    except PolicyError:
        return False
    return True


READABLE = [path for path in sorted(FOLDER.rglob("*.yaml")) if readable(path)]


class TestShippedSchema:
    @pytest.mark.parametrize("path", READABLE, ids=name_of)
    def test_other_validators_agree(self, path):
        """
        A validator that only knows the shipped schema, as editors and check-jsonschema do, gives our verdict.
        """
        schema = json.loads((shipped_folder("schemas") / SCHEMA_FILE).read_text("utf-8"))
        theirs = Draft202012Validator(schema).is_valid(yaml.safe_load(path.read_bytes()))

        assert theirs == (check_source(read_file(path)) == [])
