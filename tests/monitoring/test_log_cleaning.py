"""No value, whatever it is, breaks a record, forges one, or makes it large."""

from __future__ import annotations

import json
import logging
import re
from collections import UserDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixel_llm.errors import ErrorCode
from pixel_llm.monitoring.logs.cleaning import MOST_ITEMS, clean_fields, clean_text
from pixel_llm.monitoring.logs.record import FIELDS, new_record
from pixel_llm.monitoring.logs.rendering import render_for, render_json
from pixel_llm.policy import Secret

#: No line is longer, in characters, whatever was logged: 64 Ki of them, each an escape, and what cutting says.
LONGEST_LINE = 1_000_000


class Hostile:
    """Raises whatever it is asked."""

    def __repr__(self):
        raise RuntimeError("repr")

    def __str__(self):
        raise RuntimeError("str")

    def __hash__(self):
        return 1


class EndlessList(list):
    """A list whose iterator never ends."""

    def __iter__(self):
        while True:
            yield 1


class Lying(UserDict):
    """A map that has not what it says."""

    def __getitem__(self, key):
        raise KeyError(key)


class BadError(Exception):
    """An exception without a text."""

    def __str__(self):
        raise RuntimeError("str")


def itself():
    loop = [1]
    loop.append(loop)
    return loop


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


TEXTS = st.one_of(
    st.text(),
    st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Co"])),
    st.sampled_from(
        ["\n", "\r\n", "\x1b[31m", "\u2028", "\udcff", "\x85", "\u202e", "a" * 20_000, '"}\n{"level": "x"}']
    ),
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(min_value=2**200, max_value=2**400),
        st.floats(),
        TEXTS,
        st.binary(),
        st.builds(Hostile),
        st.builds(itself),
        st.builds(lambda: EndlessList([1])),
        st.builds(lambda: deep(100)),
        st.builds(BadError),
        st.builds(lambda: Lying(a=1)),
        st.builds(object),
    ),
    lambda children: st.one_of(
        st.lists(children, max_size=5),
        st.tuples(children, children),
        st.dictionaries(st.one_of(TEXTS, st.integers(), st.builds(Hostile)), children, max_size=5),
    ),
    max_leaves=30,
)


class Terminal:
    """A stream that may be a terminal."""

    def __init__(self, is_terminal):
        self._is_terminal = is_terminal

    def isatty(self):
        return self._is_terminal


class TestAnyValue:
    @given(message=st.one_of(TEXTS, VALUES), fields=st.dictionaries(TEXTS, VALUES, max_size=5))
    def test_becomes_one_line_of_json(self, message, fields):
        """
        A line is valid JSON, has the eight fields, is printable and bounded; nothing raises.
        """
        line = render_json(
            new_record("info", clean_text(message), context=clean_fields(fields), extra=clean_fields(fields))
        )
        record = json.loads(line)

        assert line.isprintable()
        assert len(line) < LONGEST_LINE
        assert FIELDS == tuple(record)
        line.encode("utf-8")

    @given(message=TEXTS, fields=st.dictionaries(TEXTS, VALUES, max_size=5))
    def test_becomes_lines_for_people(self, message, fields):
        """
        On the console, too, a record is one line and no escape of a terminal's comes through.
        """
        record = new_record("info", clean_text(message), context=clean_fields(fields), extra={})
        line = render_for(Terminal(is_terminal=False))(record)

        assert line.isprintable()
        assert len(line) < LONGEST_LINE


class TestExceptions:
    def test_that_cannot_say_what_they_are_are_told(self):
        """
        An exception whose text can't be had is told by its class and its trace.
        """
        try:
            raise BadError
        except BadError as error:
            record = json.loads(render_json(new_record("error", "odd", context={}, extra={}, error=error)))

        assert "test_log_cleaning.BadError" == record["exception_type"]
        assert record["stack_trace"].endswith("<exception str() failed>")

    def test_with_endless_traces_are_cut(self):
        """
        Of a deep stack, and of a long chain of causes, the end is kept.
        """

        def fall(levels):
            if not levels:
                raise ValueError("deep")
            fall(levels - 1)

        error = None
        for _ in range(300):
            try:
                try:
                    fall(100)
                except ValueError as deep:
                    raise KeyError("next") from (error or deep)
            except KeyError as caught:
                error = caught
        trace = json.loads(render_json(new_record("error", "odd", context={}, extra={}, error=error)))["stack_trace"]

        assert len(trace) < 17_000
        assert re.match(r"\[\d+ characters cut\]…", trace)
        assert trace.endswith("KeyError: 'next'")

    def test_with_pictures_in_them_show_none(self):
        """
        A picture in an exception's text is told by its size, as everywhere.
        """
        try:
            raise ValueError("no such model: data:image/png;base64,iVBORw0KGgoAAAANSUhEUg==")
        except ValueError as error:
            record = json.loads(render_json(new_record("error", "odd", context={}, extra={}, error=error)))

        assert record["stack_trace"].endswith("no such model: data:image/png,<46 characters>")


class TestKinds:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (ErrorCode.ERR_CB_OPEN, "ERR_CB_OPEN"),
            (logging.INFO, 20),
            (b"\x89PNG", "<4 bytes>"),
            (bytearray(10), "<10 bytes>"),
            (memoryview(b"abc"), "<3 bytes>"),
            (np.zeros((3, 4)), "<ndarray (3, 4)>"),
            (Image.new("RGB", (4, 3)), "<Image (4, 3)>"),
            (Secret("sk-123456"), repr(Secret("sk-123456"))),
            (ValueError("no"), "ValueError: no"),
            (float("nan"), "nan"),
            (float("-inf"), "-inf"),
            (2**300, "<int of 301 bits>"),
            (2**70, 2**70),
            (Hostile(), "<Hostile whose repr raised RuntimeError>"),
            (BadError(), "BadError: <its text can't be had>"),
            ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
            ({2}, [2]),
            (Lying(a=1), "<Lying that raised KeyError>"),
            (itself(), [1, [1, [1, [1, [1, "[cut]"]]]]]),
            ("a data:image/png;base64,iVBORw0KGgoAAAANSUhEUg== b", "a data:image/png,<46 characters> b"),
            ("x" * 9000, "x" * 8192 + "…[808 more characters]"),
        ],
        ids=lambda value: ascii(type(value).__name__),
    )
    def test_are_told_as(self, value, expected):
        """
        Pictures and bytes are told by their size, errors by class and text, what is too large or deep is cut.
        """
        assert {"field": expected} == clean_fields({"field": value})

    def test_that_are_many_are_cut(self):
        """
        So many fields and items are kept, the rest is counted.
        """
        many = clean_fields({f"f{number}": number for number in range(MOST_ITEMS + 50)})
        items = clean_fields({"items": list(range(MOST_ITEMS + 50))})["items"]

        assert (MOST_ITEMS + 1, "[50 more]") == (len(many), many["…"])
        assert (MOST_ITEMS + 1, "[50 more]") == (len(items), items[-1])

    def test_that_are_large_together_are_cut(self):
        """
        A record is bounded as a whole, not only in its parts.
        """
        text = json.dumps(clean_fields({f"f{number}": "x" * 8000 for number in range(99)}))
        nested = json.dumps(clean_fields({"f": [[[["x" * 100] * 100] * 100] * 100] * 100}))

        assert len(text) < 80_000
        assert len(nested) < 200_000

    @pytest.mark.parametrize(
        "name",
        [
            "api_key",
            "API-Key",
            "openai_api_key",
            "Authorization",
            "password",
            "db_password",
            "secret",
            "token",
            "headers",
        ],
    )
    def test_named_like_secrets_are_redacted(self, name):
        """
        Their names give secrets away, in any case of letters and at any depth.
        """
        assert {"a": {name: "[redacted]"}, name: "[redacted]"} == clean_fields({"a": {name: "sk"}, name: "sk"})

    @pytest.mark.parametrize("name", ["key", "max_tokens", "cache_key", "secretary", "prompt_tokens"])
    def test_named_otherwise_are_not(self, name):
        """
        Names that only look like those are let through.
        """
        assert {name: "v"} == clean_fields({name: "v"})
