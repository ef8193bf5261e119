"""The command line in a process of its own, as people run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def pixel_llm(*words: str, cwd: Path, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIXEL_LLM", "LM_STUDIO"))}
    return subprocess.run(
        [sys.executable, "-m", "pixel_llm", *words],
        cwd=cwd,
        env=environment | variables,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def policy(*words: str, cwd: Path, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """``pixel-llm policy``; whatever it is told, it shows no traceback."""
    done = pixel_llm("policy", *words, cwd=cwd, stdin=stdin, **variables)
    assert "Traceback" not in done.stderr
    return done


def git(*words: str, cwd: Path) -> str:
    settings = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *settings, *words], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout
