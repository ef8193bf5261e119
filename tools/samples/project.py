"""The folder in which a page's samples run, and what a reader would have there."""

from __future__ import annotations

import os
import random
import re
import socket
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: The port of LM Studio. Samples name it; a free one of as many digits stands in for it.
PORT = "1234"

#: Where in a shipped profile something stands changes with it, and is nothing that a reader looks for.
_LINE_OF_SHIPPED = re.compile(r"(…/policies/[a-z-]+\.yaml):\d+:\d+")

_PROGRAM = """#!/bin/sh
exec {python} {arguments} "$@"
"""


class Project:
    """An empty folder, with `pixel-llm` and `python` on the path, and a port that nobody else uses."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="pixel-llm-page-")
        base = Path(self._temporary.name).resolve()
        self.folder = base / "project"
        self.folder.mkdir()
        self.port = _free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if name in ("LANG", "LC_ALL", "TMPDIR")},
            "PATH": f"{_programs(base)}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(base),
            "LM_STUDIO_BASE_URL": f"http://127.0.0.1:{self.port}/v1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "A Reader",
            "GIT_AUTHOR_EMAIL": "reader@example.org",
            "GIT_COMMITTER_NAME": "A Reader",
            "GIT_COMMITTER_EMAIL": "reader@example.org",
        }

    def write(self, name: str, text: str) -> Path:
        """Make the file *name*."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.inward(text), "utf-8")
        return path

    def inward(self, text: str) -> str:
        """*text* of a page, with the port that is really used."""
        return re.sub(rf"(?<=[ :=]){PORT}\b", self.port, text)

    def outward(self, text: str) -> str:
        """*text* that was printed, as a page shows it."""
        text = re.sub(rf"(?<=[ :=]){self.port}\b", PORT, text)
        text = text.replace(str(ROOT), "…").replace(str(self.folder), "…")
        return _LINE_OF_SHIPPED.sub(r"\1:…", text)

    def take_photo(self) -> None:
        """Make ``photo.jpg``, a plain picture."""
        from PIL import Image

        Image.new("RGB", (64, 48), "steelblue").save(self.folder / "photo.jpg")

    def close(self) -> None:
        """Remove it all."""
        self._temporary.cleanup()


def _programs(base: Path) -> Path:
    """A folder with the programs that a reader has after installing."""
    folder = base / "bin"
    folder.mkdir()
    for name, arguments in (("python", ""), ("pixel-llm", "-m pixel_llm")):
        program = folder / name
        program.write_text(_PROGRAM.format(python=sys.executable, arguments=arguments), "utf-8")
        program.chmod(0o755)
    return folder


def _free_port() -> str:
    """A free port of four digits, so that nothing that is shown changes its width."""
    while True:
        port = random.randrange(2000, 10_000)
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return str(port)
