"""Paths from outside: of a regular file, of an allowed kind, inside an allowed folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.policy.suggestions import one_of
from pixel_llm.validation.complaints import Complaints, came, complain

_LONGEST_SHOWN = 160


def validate_file_path(
    path: Any,
    name: str = "path",
    *,
    extensions: str | Iterable[str] | None = None,
    must_exist: bool = True,
    root: str | os.PathLike[str] | None = None,
) -> Path:
    """
    Check the path of a file that is to be read, or, without *must_exist*, written. Safe to call from several threads.

    Args:
        path: A text or an ``os.PathLike``. ``~`` and variables are not expanded.
        name: What to call it in messages.
        extensions: The end of the name, or the several that are allowed, with or without the dot; upper and lower case
            are the same.
        must_exist: Whether the file has to be there. What is there must be a regular file in any case: no folder, no
            pipe, no device.
        root: A folder that the file must lie in. Relative paths start there, not in the working directory; symbolic
            links and ``..`` are followed first, so that neither leads out.

    Returns:
        The path; with *root* the real one, without symbolic links. Whoever may write below *root* can still put
        something else in its place afterwards.

    Raises:
        ValidationError: ERR_VAL_EMPTY_INPUT for an empty path, ERR_VAL_MISSING_FIELD for a file that is not there,
            else ERR_VAL_INVALID_RANGE, with everything that is wrong.
    """
    text = _text_of(path, name)
    checked, found = Path(text), Complaints()
    ends = (extensions,) if isinstance(extensions, str) else extensions
    wanted = sorted({f".{end.lower().lstrip('.')}" for end in ends}) if ends is not None else None
    if wanted == []:
        raise complain("extensions", "must name at least one end, such as .png (got none)")
    if wanted is not None and not checked.name.lower().endswith(tuple(wanted)):
        found.add(name, f"must end in {one_of(wanted)} (got {path_text(text)})")
    try:
        if root is not None:
            checked = _inside(checked, root, name, text)
        _check_kind(found, checked, name, text, must_exist=must_exist)
    except ValidationError as error:
        for problem in error.details["problems"]:
            found.add(problem["field"], problem["message"], ErrorCode(problem["error_code"]))
    except (OSError, ValueError, RuntimeError) as exc:  # RuntimeError: links that go in a circle, up to Python 3.12
        reason = getattr(exc, "strerror", None) or str(exc)
        found.add(name, f"must be a path that the system can follow (got {path_text(text)}: {reason})")
    found.finish()
    return checked


def path_text(path: str) -> str:
    """A path for a message: on one line, and not endless."""
    shown = repr(path if len(path) <= _LONGEST_SHOWN else f"{path[: _LONGEST_SHOWN - 1]}…")
    return shown.encode("ascii", "backslashreplace").decode() if not _is_text(shown) else shown


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text_of(path: Any, name: str) -> str:
    try:
        text = path if isinstance(path, str) else os.fsdecode(os.fspath(path))
    except TypeError as exc:
        raise complain(name, f"must be a path (got {came(path)})", cause=exc) from exc
    if not text:
        raise complain(name, "must be a path (got an empty text)", ErrorCode.ERR_VAL_EMPTY_INPUT)
    if "\0" in text:
        raise complain(name, f"must not hold null bytes (got {path_text(text)})")
    return text


def _inside(path: Path, root: str | os.PathLike[str], name: str, text: str) -> Path:
    top = Path(root).resolve()
    if not top.is_dir():
        raise complain(name, f"must lie inside {path_text(str(root))}, which is no folder (got {path_text(text)})")
    real = (top / path).resolve()
    if not real.is_relative_to(top):
        raise complain(name, f"must lie inside {path_text(str(root))} (got {path_text(text)}, which leads out)")
    return real


def _check_kind(found: Complaints, path: Path, name: str, text: str, *, must_exist: bool) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if must_exist:
            message = f"must be an existing file (got {path_text(text)}, and there is no such file)"
            found.add(name, message, ErrorCode.ERR_VAL_MISSING_FIELD)
        return
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        found.add(name, f"must be a regular file (got {path_text(text)}, which is {kind})")
