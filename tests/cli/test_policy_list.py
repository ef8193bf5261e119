"""``pixel-llm policy list`` and ``schema``"""

from __future__ import annotations

import json
import re

from command import policy

from pixel_llm.policy import render_schema


class TestPolicyList:
    def test_text(self, tmp_path):
        """A line a profile: name, description, file; where they come from is said."""
        (tmp_path / "policies").mkdir()
        description = r'"[red]Mine[/red] :smile: \e[31m"'
        (tmp_path / "policies" / "mine.yaml").write_text(f"version: 1\ndescription: {description}\n")
        (tmp_path / "policies" / "wrong.yaml").write_text("version: 2\n")
        done = policy("list", cwd=tmp_path)
        lines = [re.split(" {2,}", line) for line in done.stdout.splitlines()]

        assert (0, "") == (done.returncode, done.stderr)
        (mine,) = [line for line in lines if line[0] == "mine"]
        assert "[red]Mine[/red] :smile: \\x1b[31m" == mine[1].strip()
        assert "policies/mine.yaml" == mine[-1].strip()
        (wrong,) = [line for line in done.stdout.splitlines() if line.startswith("wrong")]
        assert "(1 problem: see pixel-llm policy validate)" in wrong
        assert "Policies come from policies; the shipped profiles can be extended from anywhere." in done.stdout
        assert {"basic", "production", "mine"} <= {line[0] for line in lines}

    def test_json(self, tmp_path):
        """Programs get the same."""
        done = json.loads(policy("list", "--format", "json", cwd=tmp_path).stdout)

        assert ["basic", "development", "high-throughput", "low-latency", "production"] == [
            row["profile"] for row in done["profiles"]
        ]
        assert all(row["description"] and row["file"].startswith(done["folder"]) for row in done["profiles"])

    def test_folder(self, tmp_path):
        """A folder may be named; one that is not there is a problem."""
        (tmp_path / "a.yaml").write_text("version: 1\ndescription: A.\n")
        missing = policy("list", "nowhere", cwd=tmp_path)

        assert "\na  " in policy("list", ".", cwd=tmp_path).stdout
        assert (1, "nowhere: the folder of policies does not exist\n") == (missing.returncode, missing.stderr)


class TestPolicySchema:
    def test_is_the_shipped_one(self, tmp_path):
        """The schema that editors read."""
        done = policy("schema", cwd=tmp_path)

        assert (0, render_schema()) == (done.returncode, done.stdout)
