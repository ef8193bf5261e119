"""The console as a sink: standard error."""

from __future__ import annotations

import errno
import sys
from collections import deque

from pixel_llm.monitoring.logs.record import Record
from pixel_llm.monitoring.logs.rendering import JSON_ESCAPES, render_for, render_json
from pixel_llm.policy import LogFormat


class ConsoleSink:
    """
    Writes records to ``sys.stderr``, whatever that is at the moment.

    Args:
        form: For machines or for people.
    """

    def __init__(self, form: LogFormat) -> None:
        self._form = form
        self.subject = "the console"

    def write(self, records: deque[Record]) -> None:
        """
        Write *records* down, and take them off; whatever the program has put in place of the stream may raise.

        Raises:
            OSError: If there is no stream.
        """
        stream = sys.stderr
        if stream is None:
            raise OSError(errno.EBADF, "there is no standard error")
        is_json = self._form is LogFormat.JSON
        render = render_json if is_json else render_for(stream)
        text = "".join(f"{render(record)}\n" for record in records)
        # What the console's encoding does not have is shown as an escape.
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(text.encode(encoding, JSON_ESCAPES if is_json else "backslashreplace").decode(encoding))
        stream.flush()
        records.clear()

    def close(self) -> None:
        """Nothing is open: standard error is the program's."""

    def forget(self) -> None:
        """Nothing is known of another process."""
