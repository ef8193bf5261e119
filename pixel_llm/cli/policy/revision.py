"""Policy files as they were at a revision of a git repository."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pixel_llm.errors import Place, PolicyError, Problem
from pixel_llm.policy.locating import NOT_FOUND
from pixel_llm.policy.nodes import Node
from pixel_llm.policy.reading import read_bytes, read_file
from pixel_llm.policy.suggestions import suggestion


class Revision:
    """
    A revision of the repository that the working directory is in. Nothing is checked out.

    A file in it has a path that begins with ``git:REV:``, which is what places show.

    Raises:
        PolicyError: If there is no such revision, no repository, or no git.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        # Its hash, so that no name can be taken for an option.
        done = self._run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        if done.returncode != 0:
            raise self.problem(f"there is no revision {name!r}{self._suggestion()}")
        self._hash = done.stdout.decode().strip()

    def path(self, file: Path) -> Path:
        """The path of *file* at this revision."""
        return Path(f"git:{self.name}:{file if file.name != str(file) else f'./{file}'}")

    def files(self, folder: Path) -> list[Path]:
        """The files that were in *folder*, by the paths they had; none if it wasn't there."""
        listed = self._output("ls-tree", "-z", "--name-only", self._hash, f"{_relative(folder)}/")
        return [folder / Path(name).name for name in listed.decode(errors="replace").split("\0") if name]

    def read(self, path: Path) -> Node:
        """Read *path*: as it was if it comes from :meth:`path`, else as it is."""
        prefix = f"git:{self.name}:"
        if not str(path).startswith(prefix):
            return read_file(path)
        file = Path(str(path).removeprefix(prefix))
        return read_bytes(self._output("show", f"{self._hash}:{_relative(file)}"), name=str(path))

    def problem(self, message: str) -> PolicyError:
        """What is wrong with this revision."""
        return PolicyError([Problem(Place(f"git:{self.name}"), "", message, NOT_FOUND)])

    def _suggestion(self) -> str:
        references = self._output("for-each-ref", "--format=%(refname:short)").decode(errors="replace")
        return suggestion(self.name, references.split())

    def _output(self, *words: str) -> bytes:
        done = self._run(*words)
        if done.returncode != 0:
            raise self.problem(_first_line(done.stderr))
        return done.stdout

    def _run(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        try:
            done = subprocess.run(["git", *words], capture_output=True, check=False)  # noqa: S603, S607
        except OSError as error:
            raise self.problem(f"git cannot be run: {error.strerror}") from error
        if done.returncode == 128 and b"not a git repository" in done.stderr:
            raise self.problem("the working directory is in no git repository")
        return done


def _relative(path: Path) -> str:
    """*path* as git wants it, from the working directory."""
    return f"./{Path(os.path.relpath(path)).as_posix()}"


def _first_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[0].removeprefix("fatal: ") if lines else "git failed"
