"""
A log file as a sink.

Lines are appended whole, by the operating system: nothing is kept back in this process that a crash could lose or a
fork could double.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path

from pixel_llm.monitoring.logs.descriptors import own_descriptor, write_some
from pixel_llm.monitoring.logs.record import Record
from pixel_llm.monitoring.logs.rendering import render_json
from pixel_llm.policy import RotationConfig

if sys.platform != "win32":
    import fcntl


_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)  # the last one on Windows

#: Seconds, longer than a write of another process takes.
_A_WRITE = 0.02
#: So often a file that is no longer the one at its path is opened anew.
_MOST_TRIES = 20


class FileSink:
    """
    Appends records to a file, which is opened with the first one and made with its folder if need be.

    A file that was moved away or deleted, as logrotate does, is made anew. Several processes may write to the same
    file, and the file may be turned over by any of them.

    What a path such as ``/dev/stdout`` stands for is written to through the descriptor that this process has: opened
    anew, the file behind it would be written from its beginning, over what the program has printed. It is the
    program's, and never turned over.

    Args:
        file: Its path.
        rotation: When it begins anew; None for never.
    """

    def __init__(self, file: str, rotation: RotationConfig | None) -> None:
        self._path = Path(os.path.expanduser(file)).absolute()  # noqa: PTH111 - Path.expanduser() may raise
        self._rotation = rotation
        self.subject = f"the log file {file}"
        self._descriptor: int | None = None
        #: Whether it is a file of the log's own, which may be moved away or turned over.
        self._is_regular = True
        self._is_torn = False

    def write(self, records: deque[Record]) -> None:
        """
        Write *records* down, and take off those that are written.

        Raises:
            OSError: If some can't be written, or the file can't be turned over and grows instead.
            ValueError: If no file can have this path.
        """
        lines = deque(map(_line, records))
        try:
            self._write_lines(lines)
        finally:
            while len(records) > len(lines):
                records.popleft()

    def close(self) -> None:
        """
        Close the file.

        Raises:
            OSError: If what was written may not have reached the disk.
        """
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def forget(self) -> None:
        """Open the file anew in a forked child: the parent's lock on it is not ours."""
        self.close()

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The file that now lies at the path, open; where it may be turned over, nobody else writes to it meanwhile."""
        for left in reversed(range(_MOST_TRIES)):
            descriptor = self._open()
            locks = self._rotation is not None and self._is_regular
            if sys.platform != "win32" and locks:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                # In the end any will do: there are file systems that give one file several identities.
                if self._is_current(descriptor) or not left:
                    yield descriptor
                    return
            finally:
                if sys.platform != "win32" and locks:
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
            self.close()

    def _open(self) -> int:
        if self._descriptor is None:
            own = own_descriptor(self._path)
            # A copy: what the program later opens under the same number is not meant.
            self._descriptor = self._open_path() if own is None else os.dup(own)
            self._is_regular = own is None and stat.S_ISREG(os.fstat(self._descriptor).st_mode)
            # An earlier process may have left half a line.
            self._is_torn = self._is_regular and self._ends_within_a_line()
        return self._descriptor

    def _open_path(self) -> int:
        try:
            mode = self._path.stat().st_mode
        except OSError:
            mode = stat.S_IFREG
        if stat.S_ISSOCK(mode):
            raise OSError(errno.EINVAL, "it is a socket")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:  # "File exists" would puzzle whoever misses a file
            raise NotADirectoryError(errno.ENOTDIR, f"{self._path.parent} is no folder") from error
        return self._open_pipe() if stat.S_ISFIFO(mode) else os.open(self._path, _APPEND, 0o666)

    def _open_pipe(self) -> int:
        # Otherwise opening one waits until somebody reads it.
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            raise OSError(errno.ENXIO, "nobody reads this pipe") from error
        os.set_blocking(descriptor, True)
        return descriptor

    def _ends_within_a_line(self) -> bool:
        # Looked at twice: another process may be in the middle of its own.
        if not self._is_unfinished():
            return False
        time.sleep(_A_WRITE)
        return self._is_unfinished()

    def _is_unfinished(self) -> bool:
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
                return file.read(1) not in (b"", b"\n")
        except OSError:  # it may only be written
            return self._is_torn

    def _is_current(self, descriptor: int) -> bool:
        """False if another file, or none, lies at the path by now."""
        if not self._is_regular:
            return True
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def _write_lines(self, lines: deque[bytes]) -> None:
        """Write *lines*, and take those off that are written."""
        rotation, trouble = self._rotation, None
        while lines:
            with self._opened() as descriptor:
                fitting = len(lines)
                if rotation is not None and self._is_regular:
                    fitting = _fitting(lines, os.fstat(descriptor).st_size, rotation)
                if fitting:
                    self._append(descriptor, lines, fitting)
                elif rotation is not None and (trouble := self._turn_over(rotation.keep)) is not None:
                    rotation = None  # better a file that is too large than none
        if trouble is not None:
            raise trouble

    def _append(self, descriptor: int, lines: deque[bytes], count: int) -> None:
        # What an earlier write left unfinished becomes a line of its own.
        data = (b"\n" if self._is_torn else b"") + b"".join(islice(lines, count))
        written = 0
        try:
            while written < len(data):
                written += write_some(descriptor, data[written:])
        finally:
            whole = data.count(b"\n", 1 if self._is_torn else 0, written)
            self._is_torn = data[written - 1 : written] != b"\n" if written else self._is_torn
            for _ in range(whole):
                lines.popleft()

    def _turn_over(self, keep: int) -> OSError | None:
        """Move the file out of the way, and those before it one on; the oldest is deleted. Gives the error, if any."""
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{number}") for number in range(1, keep + 1))]
        if sys.platform == "win32":
            self.close()  # it moves no open file
        try:
            for older, newer in pairwise(reversed(names)):
                if newer.exists():
                    newer.replace(older)
        except OSError as error:
            return error
        return None


def _fitting(lines: deque[bytes], size: int, rotation: RotationConfig) -> int:
    """How many of *lines* fit into a file of *size* bytes; one always fits into an empty file."""
    count = 0
    for line in lines:
        size += len(line)
        if size > rotation.max_size and size > len(line):
            break
        count += 1
    return count


def _line(record: Record) -> bytes:
    return f"{render_json(record)}\n".encode()
