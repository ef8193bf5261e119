"""What a command is told to look at: a profile, a file, or either at a git revision."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pixel_llm.errors import Place, PolicyError, Problem
from pixel_llm.policy import LoadedPolicy, find_folder, load_policy, load_policy_file
from pixel_llm.policy.locating import NOT_FOUND, SUFFIXES

_GIT = "git:"


@contextmanager
def loaded(
    operand: str | None,
    *,
    other: str | None = None,
    overlays: Sequence[Path] = (),
    variables: Mapping[str, str] | None = None,
) -> Iterator[LoadedPolicy]:
    """
    Load what *operand* names: a profile, a policy file, ``git:REV:OPERAND``, or ``git:REV`` for *other* as it was then.

    Without an operand, the profile of ``$PIXEL_LLM_PROFILE`` or ``basic``.
    """
    layers = list(overlays) or None
    if operand is not None and operand.startswith(_GIT):
        revision, _, name = operand.removeprefix(_GIT).partition(":")
        with _checked_out(revision, name or other or "") as file:
            yield load_policy_file(file, overlays=layers, variables=variables)
    elif operand is not None and (operand.endswith(SUFFIXES) or "/" in operand):
        yield load_policy_file(Path(operand), overlays=layers, variables=variables)
    else:
        yield load_policy(None, operand, overlays=layers, variables=variables)


@contextmanager
def _checked_out(revision: str, operand: str) -> Iterator[Path]:
    """The file that *operand* named at *revision*, with its whole folder beside it."""
    file = Path(operand) if operand.endswith(SUFFIXES) else _file_of(operand)
    with tempfile.TemporaryDirectory(prefix="pixel-llm-git-") as temporary:
        names = _git(file.parent, "ls-tree", "--name-only", revision, "./").splitlines()
        for name in names:
            if name.endswith(SUFFIXES):
                (Path(temporary) / name).write_text(_git(file.parent, "show", f"{revision}:./{name}"), "utf-8")
        yield Path(temporary) / file.name


def _file_of(profile: str) -> Path:
    folder = find_folder(None)
    return next(
        (path for suffix in SUFFIXES if (path := folder / f"{profile}{suffix}").exists()), folder / f"{profile}.yaml"
    )


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder or None, capture_output=True, text=True, check=False)  # noqa: S603, S607
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[0] if done.stderr.strip() else "git failed"
        raise PolicyError([Problem(Place(f"git:{words[-1]}"), "", reason, NOT_FOUND)])
    return done.stdout
