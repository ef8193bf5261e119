"""Completion in the shell, and ``pixel-llm completion``"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command import pixel_llm


def complete(line: str, *, cwd: Path) -> dict[str, str]:
    """What a shell would offer after *line*, with the help where there is some."""
    *words, _ = line.split(" ")
    done = pixel_llm(
        cwd=cwd, _PIXEL_LLM_COMPLETE="fish_complete", COMP_WORDS=" ".join(words), COMP_CWORD=line.split(" ")[-1]
    )
    assert (0, "") == (done.returncode, done.stderr)
    lines = [line.split(",", 1)[1] for line in done.stdout.splitlines() if "," in line]
    return {name: text for name, _, text in (line.partition("\t") for line in lines)}


class TestCompletion:
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("pixel-llm pol", {"policy"}),
            ("pixel-llm policy e", {"explain"}),
            ("pixel-llm policy show pro", {"production"}),
            ("pixel-llm policy show mi", {"mine"}),
            ("pixel-llm policy diff basic low", {"low-latency"}),
            ("pixel-llm policy validate --profile dev", {"development"}),
            ("pixel-llm policy validate --format s", {"sarif"}),
            ("pixel-llm completion z", {"zsh"}),
        ],
    )
    def test_offers(self, tmp_path, line, expected):
        """Commands, profiles and choices that begin so."""
        (tmp_path / "policies").mkdir()
        (tmp_path / "policies" / "mine.yaml").write_text("version: 1\n")

        assert expected == set(complete(line, cwd=tmp_path))

    def test_commands_have_their_help(self, tmp_path):
        """Every command is offered with the line that the help has."""
        offered = complete("pixel-llm policy ", cwd=tmp_path)

        assert {"diff", "explain", "list", "schema", "show", "validate"} == set(offered)
        assert "Check policy files." == offered["validate"]

    def test_complains_of_nothing(self, tmp_path):
        """A folder of policies that is not there offers nothing, and says nothing."""
        done = pixel_llm(
            cwd=tmp_path,
            _PIXEL_LLM_COMPLETE="fish_complete",
            COMP_WORDS="pixel-llm policy show",
            COMP_CWORD="pro",
            PIXEL_LLM_POLICIES="nowhere",
        )

        assert (0, "") == (done.returncode, done.stderr)
        assert "production" not in done.stdout


class TestCompletionCommand:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_prints_the_script(self, tmp_path, shell):
        """The script asks pixel-llm, by the variable that it answers to; no shell is started for it."""
        done = pixel_llm("completion", shell, cwd=tmp_path, PATH="/nowhere")

        assert (0, "") == (done.returncode, done.stderr)
        assert f"_PIXEL_LLM_COMPLETE={shell}_complete" in done.stdout

    def test_works_in_bash(self, tmp_path):
        """Bash takes the script, and completes a profile's name with it."""
        command = tmp_path / "bin" / "pixel-llm"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pixel_llm "$@"\n')
        command.chmod(0o755)
        script = pixel_llm("completion", "bash", cwd=tmp_path).stdout
        (tmp_path / "script").write_text(
            f'PATH="{command.parent}:$PATH"\n{script}\n'
            "COMP_WORDS=(pixel-llm policy show pro); COMP_CWORD=3\n"
            "_pixel_llm_completion pixel-llm\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
        )
        done = subprocess.run(["bash", "script"], cwd=tmp_path, capture_output=True, text=True, check=True)

        assert ("production\n", "") == (done.stdout, done.stderr)

    def test_other_shells(self, tmp_path):
        """A shell that is not known is wrong usage."""
        assert 2 == pixel_llm("completion", "csh", cwd=tmp_path).returncode
