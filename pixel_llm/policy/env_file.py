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
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            name, value = _read_line(stripped)
            if name in lines:
                raise ValueError(f"{name} stands twice; the first is in line {lines[name]}")
        except ValueError as error:  # never with the line itself, which may hold a secret
            problems.append(Problem(Place(str(path), number, 1), "", str(error), VARIABLE))
        else:
            variables[name], lines[name] = value, number
    if problems:
        raise PolicyError(problems)
    return variables


def _read_line(line: str) -> tuple[str, str]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("must be NAME=VALUE")
    name, value = match[1], match[2].strip()
    if value[:1] not in ("'", '"'):
        return name, value
    if len(value) < 2 or value[-1] != value[0]:
        raise ValueError("the value begins with a quote, so it must end with the same one")
    return name, value[1:-1]
