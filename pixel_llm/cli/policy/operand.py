"""What a command is told to look at: a profile, a file, standard input, or a profile or file at a git revision."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pixel_llm.cli.policy.revision import Revision
from pixel_llm.policy import DEFAULT_PROFILE, LoadedPolicy, load_policy, load_policy_file, profiles_in, shipped_folder
from pixel_llm.policy.inheritance import Sources
from pixel_llm.policy.loading import load_from
from pixel_llm.policy.locating import STANDARD_INPUT, SUFFIXES, neighbours
from pixel_llm.policy.reading import MAX_BYTES
from pixel_llm.policy.suggestions import one_of, suggestion

_GIT = "git:"


def load_operand(
    operand: str | None, *, other: str | None = None, overlays: Sequence[Path] = (), variables: Mapping[str, str]
) -> LoadedPolicy:
    """
    Load what *operand* names: a profile, a policy file, ``-`` for standard input, or ``git:REV:NAME``.

    ``git:REV`` stands for what *other* names, as it was then. Without an operand, the profile of
    ``$PIXEL_LLM_PROFILE`` or ``basic``.
    """
    layers = list(overlays) or None
    if operand is None or not (operand == "-" or operand.startswith(_GIT) or is_file(operand)):
        return load_policy(None, operand, overlays=layers, variables=variables)
    if operand == "-":
        sources = Sources(neighbours(STANDARD_INPUT))
        sources.add(STANDARD_INPUT, sys.stdin.buffer.read(MAX_BYTES + 1))
        return load_from(sources, STANDARD_INPUT, overlays=layers, variables=variables)
    if operand.startswith(_GIT):
        revision, _, name = operand.removeprefix(_GIT).partition(":")
        name = name or _name_of(other) or variables.get("PIXEL_LLM_PROFILE") or DEFAULT_PROFILE
        sources, file = _at(Revision(revision), name, variables)
        return load_from(sources, file, overlays=layers, variables=variables)
    return load_policy_file(Path(operand), overlays=layers, variables=variables)


def is_file(name: str) -> bool:
    """True if *name* names a file rather than a profile."""
    return name.endswith(SUFFIXES) or "/" in name or os.sep in name


def _name_of(operand: str | None) -> str:
    """The profile or file that *operand* is about, at whatever revision."""
    if operand is None or operand == "-":
        return ""
    return operand.removeprefix(_GIT).partition(":")[2] if operand.startswith(_GIT) else operand


def _at(revision: Revision, name: str, variables: Mapping[str, str]) -> tuple[Sources, Path]:
    """What *name* was made of at *revision*, and where it is in there."""
    # Where policies are looked for, be that folder still there or not.
    folder = Path(name).parent if is_file(name) else Path(variables.get("PIXEL_LLM_POLICIES") or "policies")
    files = [file for file in revision.files(folder) if file.suffix in SUFFIXES]
    profiles = {**profiles_in(shipped_folder("policies")), **{file.stem: revision.path(file) for file in files}}
    if is_file(name):
        known = {str(file): revision.path(file) for file in files}
        what, key = "file", str(Path(name))
    else:
        known, what, key = profiles, "profile", name
    if key not in known:
        hint = suggestion(key, known) or (f"; there are {one_of(known)}" if known else "")
        raise revision.problem(f"there was no {what} {name!r}{hint}")
    return Sources(profiles, read=revision.read), known[key]
