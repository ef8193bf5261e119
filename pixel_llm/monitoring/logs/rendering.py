"""
Records as lines, by structlog's renderers.

Whatever a record holds, it stays within its line: all that is not printable is written as an escape, so that nothing
can forge a record, colour a terminal or turn the reading direction round.
"""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog

from pixel_llm.monitoring.logs.record import FIELDS, Record, written_trace

# structlog's renderer for consoles takes these for something else, and begins a line with some of them.
_MEANS_MORE = frozenset({"timestamp", "level", "message", "event", "exception", "exc_info", "stack", "logger_name"})

#: The name, for :meth:`str.encode`, of what writes characters that an encoding lacks as JSON does.
JSON_ESCAPES = "pixel_llm.json"

#: Makes a line, without its end, of a record.
Render = Callable[[Record], str]


def _dump(record: Any, **_: Any) -> str:
    line = json.dumps(record, ensure_ascii=False, default=str)
    return line if line.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error(JSON_ESCAPES, _escape)

_json = structlog.processors.JSONRenderer(_dump)


def render_json(record: Record) -> str:
    """One JSON object, its fields always in the same order."""
    return str(_json(None, "", _finished(record)))


def render_for(stream: TextIO) -> Render:
    """For people who read *stream*; in colours on a terminal, unless ``$NO_COLOR`` is set."""
    is_terminal = getattr(stream, "isatty", bool)
    # On Windows, structlog needs another package for colours.
    colours = bool(is_terminal()) and not os.environ.get("NO_COLOR") and sys.platform != "win32"
    renderer = structlog.dev.ConsoleRenderer(colors=colours, sort_keys=False, event_key="message")

    def render(record: Record) -> str:
        whole = _finished(record)
        trace = whole.pop("stack_trace", None)
        named = {name: whole[name] for name in ("timestamp", "level", "message")}
        line = str(renderer(None, "", {**_printable(_values(whole)), **_printable(named)}))
        # No line of a trace begins as a record does.
        return line + "".join(f"\n    | {_printable(part)}" for part in (trace or "").splitlines())

    return render


def _values(record: dict[str, Any]) -> dict[str, Any]:
    """What a line for people says beside time, level and message, under names that nothing else has."""
    values = {name: record[name] for name in ("error_code", "exception_type") if record[name] is not None}
    for place in ("context", "extra"):
        for name, value in record[place].items():
            is_taken = name in values or name in _MEANS_MORE
            values[f"{place}.{name}" if is_taken else name] = value
    return values


def _finished(record: Record) -> dict[str, Any]:
    whole = {name: record[name] for name in FIELDS}
    moment = datetime.fromtimestamp(record["timestamp"], UTC)
    # Not by strftime(): that imports, which nobody can any more when the interpreter ends.
    whole["timestamp"] = f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
    whole["stack_trace"] = written_trace(record["stack_trace"])
    return whole


def _printable(value: Any) -> Any:
    """*value* with all texts in it printable."""
    if isinstance(value, str):
        return value if value.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in value)
    if isinstance(value, dict):
        return {_printable(name): _printable(child) for name, child in value.items()}
    if isinstance(value, list):
        return [_printable(child) for child in value]
    return value
