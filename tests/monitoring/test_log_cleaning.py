"""No value, whatever it is, breaks a record, forges one, or makes it large."""

from __future__ import annotations

import json
import logging
import re
import time
from collections import UserDict
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixel_llm.errors import ErrorCode
from pixel_llm.monitoring.logs.cleaning import MOST_ITEMS, clean_fields, clean_text
from pixel_llm.monitoring.logs.record import FIELDS, new_record
from pixel_llm.monitoring.logs.redaction import _meaning, is_redacted, redacted_text
from pixel_llm.monitoring.logs.rendering import render_for, render_json
from pixel_llm.policy import Secret

#: No line is longer, in characters, whatever was logged: 64 Ki of them, each an escape, and what cutting says.
LONGEST_LINE = 1_000_000


#: What patterns of secrets begin with, or look through: a text may be full of it.
BEGINNINGS = [
    "sk-", "sk-abcdefghijklmnopqrs-", "Bearer ", "Bearer a-", "bearer abcdefghijklmnopqrs.", "basic  ",
    "authorization:", "authorization: ", "authorization:'", 'authorization:="', "authorization: a, ",
    "authorization\\", 'authorization: \\"', "'authorization' ", "data:", "data:a/b;", "data:;c;", "://", "://a",
    "?a", "?%", "?token1", "a@://", "=", " ", ";c",
]  # fmt: skip


def least_seconds(function):
    """The least that *function* takes of a few times, of this thread's own time: others don't count."""
    times = []
    for _ in range(5):
        begun = time.thread_time()
        function()
        times.append(time.thread_time() - begun)
    return min(times)


def takes_time_by_length(seconds, length):
    """True unless four times the *length* takes far more than four times the time, as what is quadratic would: 16."""
    # What takes less than this is not measured well, and harms nobody.
    return any(seconds(4 * length) < max(10 * seconds(length), 1e-4) for _ in range(3))


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


@dataclass
class Login:
    user: str
    password: str
    note: str = field(default="", repr=False)


class LoginTuple(NamedTuple):
    user: str
    password: str


@dataclass
class Discreet:
    user: str
    password: str

    def __repr__(self):
        return f"<{self.user}>"


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
            (np.zeros((1,)), "<ndarray (1,)>"),
            (np.float32(0.5), 0.5),
            (np.float32("nan"), "nan"),
            (np.int64(7), 7),
            (np.bool_(True), True),
            (np.array(3), 3),
            (np.longdouble(0.5), "0.5"),
            (np.datetime64("2026-01-02"), "2026-01-02"),
            (torch.tensor(0.25), 0.25),
            (torch.tensor([0.25]), "<Tensor torch.Size([1])>"),
            (torch.empty((), device="meta"), "<Tensor torch.Size([])>"),
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
            "apiKey",
            "apikey",
            "ACCESS_KEY",
            "refreshToken",
            "refresh.token",
            "authtoken",
            "pwd",
            "userPwd",
            "passphrase",
            "jwt",
            "auth",
            "authorization_header",
            "PASSWORD_HASH",
            "password2",
            "dsn",
            "connection_string",
            "set-cookie",
            "session",
            "sessionId",
            "credentials",
            "clientSecret",
            "HTTPBearer",
        ],
    )
    def test_named_like_secrets_are_redacted(self, name):
        """
        Their names give secrets away, in any case of letters and at any depth.
        """
        assert {"a": {name: "[redacted]"}, name: "[redacted]"} == clean_fields({"a": {name: "sk"}, name: "sk"})

    @pytest.mark.parametrize(
        "name",
        [
            "key",
            "max_tokens",
            "cache_key",
            "secretary",
            "prompt_tokens",
            "author",
            "authority",
            "sessions",
            "token_count",
            "public_key",
            "monkey",
            "password_changed",
        ],
    )
    def test_named_otherwise_are_not(self, name):
        """
        Names that only look like those are let through.
        """
        assert {name: "v"} == clean_fields({name: "v"})

    @pytest.mark.parametrize("name", ["time_to_first_token", "systemPrompt", "auth", "image"])
    @pytest.mark.parametrize("value", [0.35, True, None])
    def test_that_can_be_no_secrets_are_not(self, name, value):
        """
        Seconds and truth values are kept, whatever they are called.
        """
        fields = {name: value, "nested": {name: value}}

        assert fields == clean_fields(fields)

    @pytest.mark.parametrize("name", ["prompt", "systemPrompt", "USER-PROMPT", "captions", "imageBase64"])
    def test_named_like_content_are_redacted(self, name):
        """
        However their names are written.
        """
        assert {name: "[redacted]"} == clean_fields({name: "x"})
        assert {name: "x"} == clean_fields({name: "x"}, content=True)

    @pytest.mark.parametrize(
        "value",
        [
            Login("me", "hunter2", "internal"),
            LoginTuple("me", "hunter2"),
            SimpleNamespace(user="me", password="hunter2"),
            {"user": "me", "password": "hunter2"},
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_of_objects_are_redacted_by_name(self, value):
        """
        Dataclasses, named tuples and namespaces are told like maps; what their repr leaves out is left out.
        """
        assert {"field": {"user": "me", "password": "[redacted]"}} == clean_fields({"field": value})

    @pytest.mark.parametrize("unit", ["1", "a_", "token", "header_", "hash", "token1"])
    def test_with_hostile_names_take_time_by_their_length(self, unit):
        """
        So it is with names, also those of parameters in a URL, and none is looked through beyond a length.
        """

        def seconds(length):
            name = ("token" + unit * length)[: length - 1] + "x"
            _meaning.cache_clear()
            return least_seconds(lambda: (_meaning.cache_clear(), is_redacted(name, str, False)))

        assert takes_time_by_length(seconds, 5)
        assert takes_time_by_length(seconds, 50)

    def test_of_long_names_are_redacted_by_their_end(self):
        """
        In a map, and in a list of pairs.
        """
        name = f"{'a_' * 50_000}password"
        (shown,) = clean_fields({"field": {name: "x"}})["field"].values()

        assert "[redacted]" == shown
        assert "[redacted]" == clean_fields({"field": [(name, "x")]})["field"][0][1]

    def test_of_pairs_are_redacted_by_name(self):
        """
        Headers and parameters often are lists of pairs.
        """
        pairs = [("Authorization", "x"), ["api_key", "y"], ("user", "me"), ("password", "x", "y"), (1, 2)]
        assert {
            "field": [["Authorization", "[redacted]"], ["api_key", "[redacted]"], *map(list, pairs[2:])]
        } == clean_fields({"field": pairs})

    def test_of_a_dataclass_with_a_repr_of_its_own_are_as_that_says(self):
        """
        Who has written a repr has thought about what it shows.
        """
        assert {"field": "<me>", "kind": repr(Login)} == clean_fields({"field": Discreet("me", "x"), "kind": Login})


class TestTexts:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("at http://me:hunter2@host:1/v1?x=1", "at http://[redacted]@host:1/v1?x=1"),
            ("postgres://u:p@ss@db/x", "postgres://[redacted]@db/x"),
            ("see http://host/a@b", "see http://host/a@b"),
            ("GET /v1?page=2&api_key=sk-1&q=a#top", "GET /v1?page=2&api_key=[redacted]&q=a#top"),
            ('"http://h/?accessToken=a.b-c"', '"http://h/?accessToken=[redacted]"'),
            ("Authorization: Bearer sk-1234567", "Authorization: Bearer [redacted]"),
            ("basic dXNlcjpwYXNz", "basic [redacted]"),
            ("Basic authentication is needed", "Basic authentication is needed"),
            ("the bearer of this", "the bearer of this"),
            ("wrong key: sk-lm-Ab12Cd34:Ef56Gh78.", "wrong key: sk-[redacted]."),
            ("sk-learn-and-its-pipelines on a disk-1234567890AB", "sk-learn-and-its-pipelines on a disk-1234567890AB"),
            ("what token=1?", "what token=1?"),
            # After the name of the header, whatever it is.
            ("Authorization: Bearer correcthorse", "Authorization: Bearer [redacted]"),
            ("proxy-authorization: basic hunter2 at 12:00", "proxy-authorization: basic [redacted] at 12:00"),
            ("AUTHORIZATION: Custom secret was refused", "AUTHORIZATION: [redacted] was refused"),
            ("Authorization: Bearer ab\r\nHost: shop", "Authorization: Bearer [redacted]\r\nHost: shop"),
            (
                'Authorization: Digest username="a b", realm="c d", response="e" failed',
                "Authorization: [redacted] failed",
            ),
            ("HTTP_AUTHORIZATION=hunter", "HTTP_AUTHORIZATION=[redacted]"),
            ("{'Authorization': 'Bearer a b', 'x': 'y'}", "{'Authorization': 'Bearer [redacted]', 'x': 'y'}"),
            ("{'Proxy-Authorization': 'it\\'s me', 'x': 1}", "{'Proxy-Authorization': '[redacted]', 'x': 1}"),
            ('{"authorization": "a \\"b\\" c", "x": 1}', '{"authorization": "[redacted]", "x": 1}'),
            ('{\\"authorization\\": \\"a b\\", 1}', '{\\"authorization\\": \\"[redacted]\\", 1}'),
            ("[(b'authorization', b'Bearer a b')]", "[(b'authorization', b'Bearer [redacted]')]"),
            ("curl -H 'Authorization: Bearer a' http://h", "curl -H 'Authorization: Bearer [redacted]' http://h"),
            ("Authorization: [redacted] at noon", "Authorization: [redacted] at noon"),
            ("{'Authorization': None}", "{'Authorization': None}"),
            ("authorization failed: no key", "authorization failed: no key"),
            # Anywhere else, what is no prose.
            ("Bearer ab12", "Bearer [redacted]"),
            ("Bearer ABCDEFGHIJKLMNOP", "Bearer [redacted]"),
            ("bearer correcthorsebatterystaple", "bearer [redacted]"),
            ("BASIC dXNlcjpwYXNz", "BASIC [redacted]"),
            ("BASIC AUTHENTICATION IS NEEDED", "BASIC AUTHENTICATION IS NEEDED"),
            ("the basic v2.1 plan", "the basic v2.1 plan"),
            ("Bearer token expired", "Bearer token expired"),
            ("sk-abcdef12345", "sk-[redacted]"),
            ("sk-correcthorsebatterystaple", "sk-[redacted]"),
            ("sk-SK, sk-learn-1.4", "sk-SK, sk-learn-1.4"),
        ],
    )
    def test_show_no_secrets(self, text, expected):
        """
        Passwords in URLs, parameters with the names of secrets, and what logs in, are redacted in any text.
        """
        assert (expected, {"field": expected}) == (clean_text(text), clean_fields({"field": text}))

    @pytest.mark.parametrize("unit", BEGINNINGS)
    @pytest.mark.parametrize("first", ["", "Bearer ", "authorization: ", "authorization:'", "data:a/b", "sk-", "://"])
    def test_take_time_by_their_length(self, first, unit):
        """
        Whoever fills a text with beginnings of secrets holds up no caller: four times the text, four times the time.
        """

        def seconds(length):
            text = (first + unit * length)[:length]
            return least_seconds(lambda: redacted_text(text))

        assert takes_time_by_length(seconds, 2048)

    def test_of_stack_traces_show_none(self):
        """
        So are they in what an exception says.
        """
        try:
            raise ValueError("no such host: http://me:hunter2@host")
        except ValueError as error:
            record = json.loads(render_json(new_record("error", "odd", context={}, extra={}, error=error)))

        assert record["stack_trace"].endswith("no such host: http://[redacted]@host")
        assert "hunter2" not in record["stack_trace"]

    def test_may_be_objects_that_lie_about_their_class(self):
        """
        Whatever is given as a message, no call raises.
        """

        class Lying:
            @property
            def __class__(self):
                raise RuntimeError("class")

            def __repr__(self):
                return "lying"

        assert "lying" == clean_text(Lying())
