"""Text on its way to a terminal, and the streams that it goes through."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from typing import Any

#: What writes a character that a stream has no bytes for: as JSON and Python escape it.
_ESCAPING = "pixel_llm.escape"


def printable(text: str, *, keep_lines: bool = False) -> str:
    """*text* with what would move the cursor, ring, or rename the window escaped; line ends too unless *keep_lines*."""
    kept = "\n\t" if keep_lines else ""
    return "".join(
        char if char.isprintable() or char in kept else char.encode("unicode_escape").decode() for char in text
    )


def json_text(value: Any, *, indent: int | None = None) -> str:
    """*value* as JSON for standard output: readers of JSON expect UTF-8, so in any other encoding it is ASCII."""
    encoding = codecs.lookup(getattr(sys.stdout, "encoding", None) or "utf-8").name
    return json.dumps(value, indent=indent, ensure_ascii=encoding != "utf-8")


def prepare_streams() -> None:
    """
    See that the standard streams take all that is said.

    What has no bytes in the encoding of standard output is escaped, as Python does it for standard error. A stream that
    whoever started us has closed is replaced, or the next file or socket that is opened would get its number, and its
    text. Nobody misses what is told on standard error; reading from or writing to the others is an error.
    """
    codecs.register_error(_ESCAPING, _escape)
    sys.stdin = sys.stdin or _closed(0, os.O_WRONLY, "r")
    sys.stdout = sys.stdout or _closed(1, os.O_RDONLY, "w")
    sys.stderr = sys.stderr or _closed(2, os.O_WRONLY, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPING)


def _closed(number: int, access: int, mode: str) -> Any:
    """A stream in place of the closed one of that *number*: of those below it none is closed any more."""
    descriptor = os.open(os.devnull, access)
    if descriptor != number:  # not so where descriptors mean something else
        os.dup2(descriptor, number)
        os.close(descriptor)
    stream: Any = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the whole run
    return stream


def _escape(error: UnicodeError) -> tuple[str, int]:
    """What takes the place of characters that can't be encoded: UTF-16 units, which JSON has escapes for."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)), error.end
