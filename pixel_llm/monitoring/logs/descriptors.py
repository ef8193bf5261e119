"""Paths that name what this process has open already, as ``/dev/stdout`` does."""

from __future__ import annotations

import os
import selectors
from pathlib import Path

#: Where the descriptors of this process lie as files; on Linux, the first one is a link to the second.
_FOLDERS = ("/dev/fd", "/proc/self/fd")

#: So many links are followed.
_MOST_LINKS = 20


def own_descriptor(path: Path) -> int | None:
    """The number of the descriptor that *path*, or a link that it is, stands for; None if it is a path like any."""
    folders = {os.path.realpath(folder) for folder in _FOLDERS}  # asked each time: another one after a fork
    for _ in range(_MOST_LINKS):
        if path.name.isdecimal() and os.path.realpath(path.parent) in folders:
            return int(path.name)
        if not path.is_symlink():
            break
        # Not to its end: that is the file behind the descriptor, which knows nothing of its position.
        path = path.parent / path.readlink()
    return None


def write_some(descriptor: int, data: bytes) -> int:
    """
    Write *data* or the beginning of it, and give how many bytes that were.

    It waits for room, also where somebody who has the same terminal or pipe open has told it not to let writers wait.
    """
    while True:
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            with selectors.DefaultSelector() as selector:
                selector.register(descriptor, selectors.EVENT_WRITE)
                selector.select()
