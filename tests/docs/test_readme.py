"""What the README shows works as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from pixel_llm import PolicyError, load_policies
from pixel_llm.testing import Answer, ScriptedLMStudio

README = Path(__file__).parents[2] / "README.md"


def samples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text("utf-8"), re.DOTALL)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's project: the README's policy, and a photograph."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "captions.yaml").write_text(samples("yaml")[0], "utf-8")
    Image.fromarray(data.astronaut()).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestPolicy:
    def test_is_valid(self, project):
        """The README's policy loads, and binds what it says."""
        target = load_policies(profile="captions").config.targets["lm_studio.chat"]

        assert (3, 30.0, 15.0) == (target.retry.max_attempts, target.circuit_breaker.cooldown, target.timeout.attempt)

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


class TestPython:
    def test_captions_a_photograph(self, project, monkeypatch, capsys):
        """Five lines of Python caption a photograph."""
        with ScriptedLMStudio(script=[Answer(text="An astronaut.")]) as server:
            monkeypatch.setenv("LM_STUDIO_BASE_URL", server.base_url)
            exec(compile(samples("python")[0], "README.md", "exec"), {})

        assert "An astronaut. lm_studio 1\n" == capsys.readouterr().out

    def test_guards_any_callable(self, project, capsys):
        """A callable of one's own goes through a target of one's own."""
        exec(compile(samples("python")[1], "README.md", "exec"), {})

        assert "charged 3\n1\n" == capsys.readouterr().out
