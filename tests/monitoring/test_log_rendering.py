"""What people see on a console."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime

import pytest

from pixel_llm.monitoring.logs.record import new_record
from pixel_llm.monitoring.logs.rendering import render_for, render_json


class Terminal(io.StringIO):
    """A console."""

    def isatty(self):
        return True


def record(**fields):
    made = new_record("warning", "busy", context={"logger": "shop", "request_id": "r-1"}, extra={"left": 2})
    return {**made, "timestamp": datetime(2026, 1, 2, 3, 4, 5, 678901, UTC).timestamp(), **fields}


class TestConsole:
    def test_is_one_line_for_people(self):
        """
        Time, level and message, then what it is about and what it holds.
        """
        line = render_for(io.StringIO())(record(error_code="ERR_CB_OPEN"))

        assert re.fullmatch(
            r"2026-01-02T03:04:05\.678901Z \[warning *\] busy +\[shop\] error_code=ERR_CB_OPEN request_id=r-1 left=2",
            line,
        )

    def test_is_coloured_on_a_terminal(self, monkeypatch):
        """
        Unless ``$NO_COLOR`` is set.
        """
        monkeypatch.delenv("NO_COLOR", raising=False)
        coloured = render_for(Terminal())(record())
        monkeypatch.setenv("NO_COLOR", "1")
        plain = render_for(Terminal())(record())

        assert "\x1b[" in coloured
        assert "\x1b" not in plain

    def test_shows_no_escape_of_the_record_s(self):
        """
        A message can't colour the terminal, go back in its line, or begin a line of its own.
        """
        line = render_for(io.StringIO())(record(message="a\x1b[31m\r\nb\u202e", extra={"x\ny": ["\x07"]}))

        assert line.isprintable()
        assert r"a\x1b[31m\r\nb\u202e" in line

    def test_takes_no_field_for_more_than_it_is(self):
        """
        A field that is called like a part of the line, or like what structlog gives lines of its own, is a field.
        """
        names = ["timestamp", "level", "message", "event", "exception", "exc_info", "stack", "logger_name", "logger"]
        names += ["error_code", "stack_info", "request_id"]
        line = render_for(io.StringIO())(record(error_code="ERR", extra=dict.fromkeys(names, "x y")))

        assert line.isprintable()
        assert line.startswith("2026-01-02T03:04:05.678901Z [warning  ] busy ")
        assert all(f"{name}='x y'" in line for name in names)

    def test_may_be_anything_that_can_be_written_to(self):
        """
        What stands in for standard error need not know what a terminal is.
        """
        assert "busy" in render_for(object())(record())

    def test_shows_stack_traces_below(self):
        """
        No line of a trace looks like a record.
        """
        lines = render_for(io.StringIO())(record(stack_trace="one\n2026-01-02 [error] forged\n\x1b[1mtwo")).splitlines()

        assert ["    | one", "    | 2026-01-02 [error] forged", "    | \\x1b[1mtwo"] == lines[1:]


class TestJSON:
    @pytest.mark.parametrize("text", ["\x1b[31m", "\u202e", "\x7f", "\ue000", "\U000e0001", "\ud800"], ids=ascii)
    def test_has_only_what_is_printable(self, text):
        """
        Whatever is not printable is an escape of JSON's, also where it takes two.
        """
        line = render_json(record(message=text))

        assert line.isprintable()
        assert line.isascii()
