"""The pre-commit hook, the GitHub action and the GitLab job, run as far as that goes without their hosts."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]

GOOD = "version: 1\ndescription: Fine.\nextends: basic\n"
BAD = "version: 1\ndescription: Not fine.\nextends: basic\nlogging: {levle: INFO}\n"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What a job sees: `pixel-llm` and `python` on the path, and no variables of ours."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, arguments in (("pixel-llm", "-m pixel_llm"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIXEL_LLM", "LM_STUDIO", "GIT"))}
    return kept | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "GIT_CONFIG_GLOBAL": os.devnull,
    }


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An empty repository."""
    folder = tmp_path / "repository"
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    return folder


def write(repository: Path, name: str, text: str) -> None:
    path = repository / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def bash(
    script: str, repository: Path, environment: Mapping[str, str], *flags: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "--noprofile", "--norc", *flags, "-c", script],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def matches_schema(name: str, file: Path, *flags: str) -> None:
    """Check *file* against a schema that check-jsonschema brings along."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", name, *flags, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout


class TestPreCommitHook:
    @pytest.fixture
    def hook(self) -> dict[str, Any]:
        (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
        return hook

    def run(
        self, hook: Mapping[str, Any], repository: Path, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """What pre-commit does: the entry and its arguments if a file that is staged matches."""
        subprocess.run(["git", "add", "."], cwd=repository, check=True)
        staged = subprocess.run(
            ["git", "diff", "--cached", "--name-only"], cwd=repository, capture_output=True, text=True, check=True
        )
        assert any(re.search(hook["files"], name) for name in staged.stdout.splitlines())
        assert hook["pass_filenames"] is False
        return bash(shlex.join([*shlex.split(hook["entry"]), *hook["args"]]), repository, environment)

    def test_is_what_the_page_names(self, hook):
        """The how-to names the hook by its id, and pre-commit can install it."""
        page = (ROOT / "docs/how-to/check-policies-in-ci.md").read_text("utf-8")

        assert f"- id: {hook['id']}\n" in page
        assert "python" == hook["language"]

    def test_wrong_policy_fails(self, hook, repository, environment):
        """A wrong policy stops the commit and is named with its place."""
        write(repository, "policies/captions.yaml", BAD)
        done = self.run(hook, repository, environment)

        assert 1 == done.returncode
        assert done.stdout.startswith("policies/captions.yaml:4:11: logging.levle: unknown key 'levle'")

    def test_right_policy_passes(self, hook, repository, environment):
        """A policy without mistakes does not."""
        write(repository, "policies/captions.yaml", GOOD)

        assert 0 == self.run(hook, repository, environment).returncode

    def test_child_of_a_changed_parent_is_checked(self, hook, repository, environment):
        """A parent that a child no longer fits is found, although the child has not changed."""
        write(repository, "policies/base.yaml", "version: 1\ndescription: Has no template any more.\n")
        write(
            repository,
            "policies/child.yaml",
            "version: 1\nextends: base\ntargets: {billing.charge: {retry: patient, idempotent: true}}\n",
        )
        done = self.run(hook, repository, environment)

        assert 1 == done.returncode
        assert "policies/child.yaml:3:35: targets.billing.charge.retry: there is no template 'patient'" in done.stdout

    @pytest.mark.parametrize(
        ("name", "expected"),
        [("policies/a.yaml", True), ("policies/a.yml", True), ("policies/README.md", False), ("a.yaml", False)],
    )
    def test_looks_at_policies_only(self, hook, name, expected):
        """Only files below `policies/` start it."""
        assert expected == bool(re.search(hook["files"], name))


class TestGitHubAction:
    ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))

    def run(self, repository: Path, environment: Mapping[str, str], **inputs: str) -> subprocess.CompletedProcess[str]:
        """What a runner does: the last step's script, its variables made from the inputs."""
        step = self.ACTION["runs"]["steps"][-1]
        values = {name: str(item["default"]) for name, item in self.ACTION["inputs"].items()}
        values |= {name.replace("_", "-"): value for name, value in inputs.items()}
        variables = {
            name: re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda match: values[match[1]], text)
            for name, text in step["env"].items()
        }
        # As the runner calls bash: docs.github.com, "jobs.<job_id>.steps[*].shell".
        return bash(step["run"], repository, {**environment, **variables}, "-e", "-o", "pipefail")

    def test_meets_the_schema_of_actions(self):
        """GitHub would accept the file."""
        matches_schema("vendor.github-actions", ROOT / "action.yml")

    def test_scripts_take_no_expressions(self):
        """No input is pasted into a script, where it could be run; each comes as a variable."""
        assert [] == [step["run"] for step in self.ACTION["runs"]["steps"] if "${{" in step.get("run", "")]

    def test_every_input_is_used_and_explained(self):
        """Each input reaches a step, and the how-to has a row for it."""
        steps = str(self.ACTION["runs"]["steps"])
        page = (ROOT / "docs/how-to/check-policies-in-ci.md").read_text("utf-8")

        assert [] == [name for name in self.ACTION["inputs"] if f"inputs.{name} " not in steps]
        assert [] == [name for name in self.ACTION["inputs"] if f"\n| `{name}` |" not in page]

    def test_wrong_policy_is_annotated(self, repository, environment):
        """A wrong policy fails the job, and its line is marked."""
        write(repository, "policies/captions.yaml", BAD)
        done = self.run(repository, environment)

        assert 1 == done.returncode, done.stderr
        assert re.match(r"::error file=policies/captions\.yaml,.*line=4,col=11::logging\.levle: ", done.stdout)

    def test_right_policy_passes(self, repository, environment):
        """A policy without mistakes passes, and nothing is marked."""
        write(repository, "policies/captions.yaml", GOOD)
        done = self.run(repository, environment)

        assert (0, "", "") == (done.returncode, done.stdout.strip(), done.stderr)

    def test_sarif_is_written_although_the_check_fails(self, repository, environment):
        """With sarif-file the findings of a failing check can be uploaded."""
        write(repository, "policies/captions.yaml", BAD)
        done = self.run(repository, environment, sarif_file="out.sarif")

        (run,) = json.loads((repository / "out.sarif").read_text("utf-8"))["runs"]
        assert 1 == done.returncode
        assert ["PL003"] == [result["ruleId"] for result in run["results"]]

    def test_strict(self, repository, environment):
        """With strict, a warning fails."""
        warned = "version: 1\ndescription: Time.\ntargets: {billing.charge: {deadline: 5s, timeout: 10s}}\n"
        write(repository, "policies/captions.yaml", warned)

        assert 0 == self.run(repository, environment).returncode
        assert 1 == self.run(repository, environment, strict="true").returncode

    def test_several_paths_overlays_and_an_env_file(self, repository, environment):
        """Paths and overlays come one a line, spaces and all; variables from a file."""
        write(repository, "policies/captions.yaml", GOOD)
        write(repository, "more policies/other.yaml", f"{GOOD}lm_studio: {{model: '${{CAPTION_MODEL}}'}}\n")
        write(repository, "over lay.yaml", "version: 1\nlogging: {levle: INFO}\n")
        write(repository, "ci.env", "CAPTION_MODEL=some\n")
        paths = "policies\nmore policies\n"

        assert 1 == self.run(repository, environment, paths=paths).returncode
        assert 0 == self.run(repository, environment, paths=paths, env_file="ci.env").returncode
        done = self.run(repository, environment, paths=paths, env_file="ci.env", overlays="over lay.yaml\n")
        assert done.stdout.startswith("::error file=over lay.yaml,")

    def test_inputs_are_not_run(self, repository, environment):
        """What looks like a command in an input stays a file name."""
        done = self.run(repository, environment, paths='$(touch oops); `touch oops` "')

        assert 1 == done.returncode
        assert not (repository / "oops").exists()


class TestGitLabJob:
    FILE = ROOT / "ci" / "gitlab.yml"

    def run(self, repository: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """What a runner does: all lines of the script in one shell, ended by the first that fails."""
        job = yaml.safe_load(self.FILE.read_text("utf-8"))
        script = "\n".join(job["pixel-llm-policies"]["script"])
        return bash(script, repository, {**environment, "POLICIES": job["variables"]["POLICIES"]}, "-eo", "pipefail")

    def test_meets_the_schema_of_gitlab(self):
        """GitLab would accept the file."""
        matches_schema("vendor.gitlab-ci", self.FILE, "--data-transform", "gitlab-ci")

    def test_wrong_policy_fails_with_a_report(self, repository, environment):
        """The job fails, and the code quality report has the finding with what GitLab wants of it."""
        write(repository, "policies/captions.yaml", BAD)
        done = self.run(repository, environment)

        (issue,) = json.loads((repository / "gl-code-quality-report.json").read_text("utf-8"))
        assert 1 == done.returncode, done.stderr
        assert ("PL003", "major") == (issue["check_name"], issue["severity"])
        assert {"path": "policies/captions.yaml", "lines": {"begin": 4}} == issue["location"]
        assert issue["description"].startswith("logging.levle: unknown key")
        assert re.fullmatch("[0-9a-f]{64}", issue["fingerprint"])

    def test_right_policy_passes(self, repository, environment):
        """The job passes, with an empty report."""
        write(repository, "policies/captions.yaml", GOOD)
        done = self.run(repository, environment)

        assert 0 == done.returncode, done.stderr
        assert [] == json.loads((repository / "gl-code-quality-report.json").read_text("utf-8"))


class TestPage:
    """What the how-to tells people to put into their repositories."""

    BLOCKS = re.findall(
        r"```yaml title=(\S+)\n(.*?)```", (ROOT / "docs/how-to/check-policies-in-ci.md").read_text("utf-8"), re.DOTALL
    )

    @pytest.mark.parametrize(
        ("name", "schema"),
        [
            (".github/workflows/policies.yml", ["vendor.github-workflows"]),
            (".gitlab-ci.yml", ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"]),
        ],
    )
    def test_meets_the_schemas(self, tmp_path, name, schema):
        """GitHub and GitLab would accept the files."""
        texts = [text for title, text in self.BLOCKS if title == name]
        assert texts
        for text in texts:
            (tmp_path / "file.yml").write_text(text, "utf-8")
            matches_schema(schema[0], tmp_path / "file.yml", *schema[1:])

    def test_inputs_are_those_of_the_action(self):
        """The workflows use no input that the action does not have."""
        for name, text in self.BLOCKS:
            if name.startswith(".github/"):
                (job,) = yaml.safe_load(text)["jobs"].values()
                used = [step["with"] for step in job["steps"] if step["uses"].startswith("OWNER/pixel-llm@")]
                assert used
                assert all(set(inputs) <= set(TestGitHubAction.ACTION["inputs"]) for inputs in used)
