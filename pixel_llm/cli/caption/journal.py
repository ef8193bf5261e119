"""
The file of captions: JSON lines, one an image, written when it has ended.

A run that was cut short goes on where it stopped: images that have their caption in the file are not asked about again;
those with an error, or a degraded caption, are, and their new line comes after the old one, so the last line counts.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import IO

import click

from pixel_llm.cli.caption.row import Row


def _lock(file: IO[bytes]) -> bool:
    """Keep others from writing to *file*; False if another run does."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


#: What every line begins with.
_BEGINNING = b'{"image": "'


class Journal:
    """
    One file of captions, open for as long as the run.

    Args:
        path: The file; it is made if it is not there.

    Raises:
        UsageError: If it can't be opened, another run is writing it, or it holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._open()
        # Into a pipe or a device is only written.
        self._is_regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        self._finished: set[tuple[str, str]] = set()
        try:
            if self._is_regular:
                if not _lock(self._file):
                    raise click.UsageError(f"--output {path}: another run is writing to this file")
                self._finished = self._read()
        except BaseException:
            self._file.close()
            raise

    def has(self, image: str, prompt: str) -> bool:
        """True if *image* has a caption for *prompt* that is not degraded."""
        return (image, prompt) in self._finished

    def write(self, row: Row) -> None:
        """Add *row*; it is on the disk when this returns."""
        self._file.write(row.as_json().encode() + b"\n")
        self._file.flush()
        if self._is_regular:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self) -> IO[bytes]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return self._path.open("a+b" if not self._path.exists() or self._path.is_file() else "ab")
        except OSError as error:
            raise click.UsageError(f"--output {self._path}: cannot be written ({error.strerror})") from None

    def _read(self) -> set[tuple[str, str]]:
        finished: set[tuple[str, str]] = set()
        self._file.seek(0)
        whole, line = 0, b"\n"
        for number, line in enumerate(self._file, 1):
            record = _record(line)
            if record is None:
                if line.endswith(b"\n") or not _is_cut_off(line):
                    raise click.UsageError(
                        f"--output {self._path}: line {number} is no line of this command's: name another file"
                    )
                break  # a crash in mid-write: the image was not finished
            whole += len(line)
            key = str(record["image"]), str(record["prompt"])
            if record["error"] is None and not record["degraded"]:
                finished.add(key)
            else:
                finished.discard(key)
        else:
            if not line.endswith(b"\n"):
                self._file.write(b"\n")
            return finished
        self._file.truncate(whole)
        return finished


def _is_cut_off(line: bytes) -> bool:
    """True if *line* is the beginning of one of ours: nothing else may be taken away."""
    return line.startswith(_BEGINNING) or _BEGINNING.startswith(line)


def _record(line: bytes) -> dict[str, object] | None:
    """The record in *line*; None if it is none of ours."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    wanted = {"image": str, "prompt": str, "caption": str | None, "error": str | None, "degraded": bool | None}
    if not isinstance(record, dict):
        return None
    return record if all(name in record and isinstance(record[name], kind) for name, kind in wanted.items()) else None
