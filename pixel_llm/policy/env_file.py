"""Files of ``NAME=VALUE`` lines, which stand in for the environment where there is none, as in CI."""

from __future__ import annotations

import re
from pathlib import Path

from pixel_llm.errors import Place, PolicyError, Problem
from pixel_llm.policy.interpolation import VARIABLE

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")


def read_env_file(path: Path) -> dict[str, str]:
    """
    Read *path*: a variable a line, ``#`` for comments, quotes around values if need be; nothing is expanded.

    Raises:
        PolicyError: If it cannot be read, with every line that is not understood.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise PolicyError([Problem(Place(str(path)), "", f"cannot be read: {reason}", VARIABLE)]) from error
    variables: dict[str, str] = {}
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if (match := _LINE.fullmatch(stripped)) is None:
            problems.append(Problem(Place(str(path), number, 1), "", "must be NAME=VALUE", VARIABLE))
        else:
            variables[match[1]] = _unquote(match[2].strip())
    if problems:
        raise PolicyError(problems)
    return variables


def _unquote(value: str) -> str:
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"" else value
