"""``pixel-llm doctor`` as people type it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from command import pixel_llm

from pixel_llm.testing import ScriptedLMStudio


def doctor(*words: str, cwd: Path, **variables: Any) -> subprocess.CompletedProcess[str]:
    done = pixel_llm("doctor", *words, cwd=cwd, **variables)
    assert "Traceback" not in done.stderr
    return done


class TestDoctor:
    def test_all_is_well(self, tmp_path):
        """Exit 0, a line a check, and a count."""
        with ScriptedLMStudio() as server:
            done = doctor("--base-url", server.base_url, cwd=tmp_path)
        lines = done.stdout.splitlines()

        assert (0, "", 11, "10 ok") == (done.returncode, done.stderr, len(lines), lines[-1])
        assert lines[0] == "ok       policy      profile basic is valid"

    def test_problems(self, tmp_path):
        """Exit 1; what to do stands below what is wrong. As JSON, each is an object."""
        (tmp_path / "mine.yaml").write_text(
            "version: 1\nextends: basic\nlm_studio:\n  vision: image\n  endpoints: [base_url: http://127.0.0.1:9/v1]\n"
        )
        with ScriptedLMStudio() as server:
            words = ["--policies", ".", "--profile", "mine", "--base-url", server.base_url, "--model", "gemma"]
            text = doctor(*words, cwd=tmp_path)
            document = json.loads(doctor(*words, "--format", "json", cwd=tmp_path).stdout)
        checks = {check["name"]: check for check in document["checks"]}

        assert 1 == text.returncode
        assert "failed   model       the server has no gemma, but qwen2.5-vl-7b-instruct" in text.stdout
        assert "\n                     → download it in LM Studio, or set lm_studio.model" in text.stdout
        assert (False, "gemma", server.base_url) == (document["fine"], document["model"], checks["model"]["server"])
        assert ("failed", "skipped") == (checks["model"]["outcome"], checks["round trip"]["outcome"])
        assert checks["round trip"]["message"] == "because model failed"

    def test_policies_and_profile(self, tmp_path):
        """A policy that is wrong is told with its places, and the rest is skipped."""
        (tmp_path / "mine.yaml").write_text("version: 1\nextends: basic\nlm_studio: {modell: x}\n")
        done = doctor("--policies", ".", "--profile", "mine", cwd=tmp_path)

        assert 1 == done.returncode
        assert "failed   policy      mine.yaml:3:" in done.stdout
        assert "skipped  server      because policy failed" in done.stdout

    @pytest.mark.parametrize(
        ("words", "complaint"),
        [
            (["--timeout", "5"], "5 has no unit: write 5s or 5ms"),
            (["--timeout", "0s"], "must be longer than 0s and at most 1h"),
            (["--format", "xml"], "'xml' is not one of"),
            (["extra"], "unexpected extra argument"),
        ],
    )
    def test_wrong_usage(self, tmp_path, words, complaint):
        """Exit 2."""
        done = doctor(*words, cwd=tmp_path)

        assert 2 == done.returncode
        assert complaint in done.stderr
