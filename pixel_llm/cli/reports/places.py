"""Places as other programs want them."""

from __future__ import annotations

from pathlib import Path


def from_here(file: str) -> str:
    """*file* relative to the working directory if it lies below it: what scans a repository knows only such paths."""
    path = Path(file)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return file
