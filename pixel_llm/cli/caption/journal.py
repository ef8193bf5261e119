"""
The file of captions: JSON lines, one an image, written when it has ended.

A run that was cut short goes on where it stopped: images that have their caption in the file are not asked about again;
those with an error, or a degraded caption, are, and their new line comes after the old one, so the last line counts. A
caption is that of one picture (a file that was changed since is another one), one prompt and one model. Lines of
earlier versions don't say of which picture and model they are, and count for any.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import IO, Any

import click

from pixel_llm.cli.caption.images import STANDARD_INPUT, identity
from pixel_llm.cli.caption.row import Row
from pixel_llm.cli.caption.task import Task


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


#: What finds a caption: the image's identity, the prompt, and the model that was asked, if the line says so.
_Key = tuple[str, str, str | None]
#: What tells a picture from what its file holds later: size and time, if the line says so.
_Stamp = tuple[int | None, float | None]
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
        self._finished: dict[_Key, _Stamp] = {}
        try:
            if self._is_regular:
                if not _lock(self._file):
                    raise click.UsageError(f"--output {path}: another run is writing to this file")
                self._finished = self._read()
        except BaseException:
            self._file.close()
            raise

    def has(self, task: Task) -> bool:
        """True if there is a caption for *task* that is not degraded. What standard input holds, nobody can know."""
        if task.image == STANDARD_INPUT:
            return False
        image, now = identity(task.image), (task.size, task.modified)
        stamps = [self._finished.get((image, task.prompt, model)) for model in (task.model, None)]
        return any(stamp is not None and (stamp == now or None in stamp or None in now) for stamp in stamps)

    def write(self, row: Row) -> None:
        """
        Add *row*; it is on the disk when this returns.

        Raises:
            OSError: If it can't be written; it names the file.
        """
        try:
            # A path that is no Unicode is escaped, and reads back as the same path.
            line = json.dumps(row.fields(), ensure_ascii=False).encode("utf-8", "backslashreplace")
            self._file.write(line + b"\n")
            self._file.flush()
            if self._is_regular:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise OSError(error.errno, f"cannot be written ({error.strerror})", str(self._path)) from error

    def close(self) -> None:
        """Close the file. A line that could not be written has been complained of."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _open(self) -> IO[bytes]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return self._path.open("a+b" if not self._path.exists() or self._path.is_file() else "ab")
        except OSError as error:
            raise click.UsageError(f"--output {self._path}: cannot be written ({error.strerror})") from None

    def _read(self) -> dict[_Key, _Stamp]:
        finished: dict[_Key, _Stamp] = {}
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
            key = identity(record["image"]), record["prompt"], record.get("asked_model")
            if record["error"] is None and not record["degraded"]:
                finished[key] = (record.get("size"), record.get("modified"))
            else:
                finished.pop(key, None)
        else:
            if not line.endswith(b"\n"):
                self._file.write(b"\n")
            return finished
        self._file.truncate(whole)
        return finished


def _is_cut_off(line: bytes) -> bool:
    """True if *line* is the beginning of one of ours: nothing else may be taken away."""
    return line.startswith(_BEGINNING) or _BEGINNING.startswith(line)


def _record(line: bytes) -> dict[str, Any] | None:
    """The record in *line*; None if it is none of ours."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    wanted = {"image": str, "prompt": str, "caption": str | None, "error": str | None, "degraded": bool | None}
    if not isinstance(record, dict) or not all(name in record for name in wanted):
        return None
    kinds: dict[str, Any] = {**wanted, "asked_model": str | None, "size": int | None, "modified": float | None}
    return record if all(isinstance(record.get(name), kind) for name, kind in kinds.items()) else None
