"""Where policies are looked for, and where the shipped ones lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from pixel_llm.errors import Place, PolicyError, Problem
from pixel_llm.policy.suggestions import one_of, suggestion

_PACKAGE = Path(__file__).resolve().parent.parent

NOT_FOUND = "PL001"

#: What standard input is called, as a file.
STANDARD_INPUT = Path("<stdin>")

#: Files that are read as policies.
SUFFIXES = (".yaml", ".yml")


def shipped_folder(name: str) -> Path:
    """The folder *name* ("policies" or "schemas") as shipped: inside the wheel, or beside the package in a checkout."""
    inside = _PACKAGE / "_shipped" / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def find_folder(given: str | Path | None, variables: Mapping[str, str] | None = None) -> Path:
    """
    The folder that policies come from.

    The argument, else ``$PIXEL_LLM_POLICIES``, else ``./policies`` if it is there,
    else the shipped ones.
    """
    variables = os.environ if variables is None else variables
    chosen = given or variables.get("PIXEL_LLM_POLICIES")
    if chosen:
        folder = Path(chosen)
        if not folder.is_dir():
            origin = "" if given else " (from $PIXEL_LLM_POLICIES)"
            what = "is not a folder" if folder.exists() else "does not exist"
            raise PolicyError([Problem(Place(str(folder)), "", f"the folder of policies {what}{origin}", NOT_FOUND)])
        return folder
    local = Path("policies")
    if local.exists() and not local.is_dir():
        raise PolicyError([Problem(Place("policies"), "", "is not a folder of policies", NOT_FOUND)])
    return local if local.is_dir() else shipped_folder("policies")


def policy_files(folder: Path) -> list[Path]:
    """The policy files of *folder*, in the order of their names; none if it is not there."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())


def profiles_in(folder: Path) -> dict[str, Path]:
    """The profiles of *folder*, by name; the shipped ones are there too, unless *folder* has its own of that name."""
    own = policy_files(folder)
    for first, second in pairwise(own):
        if first.stem == second.stem:
            raise PolicyError(
                [Problem(Place(str(second)), "", f"is the profile {second.stem!r} too; {first} is another", NOT_FOUND)]
            )
    return {path.stem: path for path in [*policy_files(shipped_folder("policies")), *own]}


def neighbours(file: Path) -> dict[str, Path]:
    """The profiles that *file* can extend: those beside it; for standard input those of :func:`find_folder`."""
    return profiles_in(find_folder(None) if file == STANDARD_INPUT else file.parent)


def profile_file(folder: Path, name: str) -> Path:
    """The file of the profile *name*, from *folder* or the shipped ones."""
    profiles = profiles_in(folder)
    if name not in profiles:
        hint = suggestion(name, profiles) or f"; there are {one_of(profiles)}"
        raise PolicyError([Problem(Place(str(folder)), "", f"there is no profile {name!r}{hint}", NOT_FOUND)])
    return profiles[name]
