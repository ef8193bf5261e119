"""What the README shows works as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pixel_llm import PolicyError, load_policies

README = Path(__file__).parents[2] / "README.md"


def samples(language: str) -> list[str]:
    return re.findall(rf"```{language}(?: title=\S+)?\n(.*?)```", README.read_text("utf-8"), re.DOTALL)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's project with the README's policy."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "captions.yaml").write_text(samples("yaml")[0], "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestPolicy:
    def test_is_valid(self, project):
        """The README's policy loads, and binds what it says."""
        target = load_policies(profile="captions").config.targets["lm_studio.chat"]

        assert (4, 30.0, 15.0) == (target.retry.max_attempts, target.circuit_breaker.cooldown, target.timeout.attempt)

    def test_has_fifteen_lines(self):
        """A policy that does the job fits into 15 lines."""
        assert 15 == len(samples("yaml")[0].splitlines())

    def test_messages_are_the_real_ones(self, project):
        """The two problems that the README shows are what a user sees."""
        file = project / "policies" / "captions.yaml"
        text = file.read_text("utf-8").replace("max_attempts", "max_attempt").replace("timeout: 15s", "timeout: 15")
        file.write_text(text, "utf-8")

        with pytest.raises(PolicyError) as caught:
            load_policies(profile="captions")

        assert samples("text")[0].strip() == str(caught.value)
