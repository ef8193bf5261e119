"""The console as a sink: standard error."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pixel_llm.monitoring.logs.record import Record
from pixel_llm.monitoring.logs.rendering import render_for, render_json
from pixel_llm.monitoring.logs.trouble import Trouble
from pixel_llm.policy import LogFormat


class ConsoleSink:
    """
    Writes records to ``sys.stderr``, whatever that is at the moment.

    Args:
        form: For machines or for people.
    """

    def __init__(self, form: LogFormat) -> None:
        self._form = form
        self._trouble = Trouble("the console")

    def write(self, records: Sequence[Record]) -> None:
        """Write *records* down."""
        stream = sys.stderr
        if stream is None:  # a program without a console
            return
        try:
            render = render_json if self._form is LogFormat.JSON else render_for(stream)
            text = "".join(f"{render(record)}\n" for record in records)
            # What the console's encoding does not have is shown as an escape.
            encoding = getattr(stream, "encoding", None) or "utf-8"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()
        except (OSError, ValueError) as error:
            self._trouble.report(error)

    def close(self) -> None:
        """Nothing is open: standard error is the program's."""

    def forget(self) -> None:
        """Nothing is known of another process."""
