from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_llm.lm_studio.sse import Event, EventReader, Fault


def read(*parts: bytes, **bounds: int) -> list[Event | Fault]:
    reader = EventReader(**bounds)
    found = [item for part in parts for item in reader.feed(part)]
    return found + reader.finish()


class TestFormat:
    @pytest.mark.parametrize(
        ("stream", "expected"),
        [
            pytest.param(b"data: one\n\ndata: two\n\n", [Event("", "one"), Event("", "two")], id="LF"),
            pytest.param(b"data: one\r\n\r\ndata: two\r\n\r\n", [Event("", "one"), Event("", "two")], id="CRLF"),
            pytest.param(b"data: one\r\rdata: two\r\r", [Event("", "one"), Event("", "two")], id="CR"),
            pytest.param(b"data:one\n\n", [Event("", "one")], id="no space"),
            pytest.param(b"data:  one \n\n", [Event("", " one ")], id="one space belongs to the format"),
            pytest.param(b"data: one\ndata: two\n\n", [Event("", "one\ntwo")], id="several lines"),
            pytest.param(b"data\ndata:\n\n", [Event("", "\n")], id="empty data"),
            pytest.param(b"event: error\ndata: x\n\ndata: y\n\n", [Event("error", "x"), Event("", "y")], id="a name"),
            pytest.param(b"event:error\n\n", [Event("error", "")], id="a name without data"),
            pytest.param(b": hello\nid: 7\nretry: 5\nid\n\ndata: x\n\n", [Event("", "x")], id="what says nothing"),
            pytest.param(b"\xef\xbb\xbfdata: x\n\n", [Event("", "x")], id="byte order mark"),
            pytest.param(b"\n \n\n\ndata: x\n\n\n\n", [Event("", "x")], id="blank lines"),
            pytest.param("data: Löwe 🦁\n\n".encode(), [Event("", "Löwe 🦁")], id="UTF-8"),
            pytest.param(b"data: \xff\n\n", [Event("", "\ufffd")], id="no UTF-8"),
            pytest.param("data: a\u2028b\x0b\x85\n\n".encode(), [Event("", "a\u2028b\x0b\x85")], id="no line ends"),
            pytest.param(b"data: one\n\ndata: tw", [Event("", "one"), Event("", "tw")], id="an unfinished line"),
            pytest.param(b"data: one\n\ndata: two\n", [Event("", "one"), Event("", "two")], id="an unfinished event"),
            pytest.param(b"", [], id="nothing"),
        ],
    )
    def test_events(self, stream, expected):
        """
        The standard's format; what is unfinished at the end is given, not lost.
        """
        assert expected == read(stream)

    @pytest.mark.parametrize("text", ["proxy error: Failed", "garbage", '{"error": "x"}', "dat: x"])
    @pytest.mark.parametrize("ending", ["", "\n", "\n\ndata: more\n\n"])
    def test_text_ends_the_stream(self, text, ending):
        """
        Text that is no field is a fault, and what comes after it is not looked at.
        """
        assert [Event("", "one"), Fault("text", text)] == read(f"data: one\n\n{text}{ending}".encode())

    @pytest.mark.parametrize(
        ("stream", "what"),
        [
            (b"data: " + b"x" * 15, "a line of more than 20 bytes"),
            (b"data: " + b"x" * 15 + b"\n\n", "a line of more than 20 bytes"),
            (b":" * 21, "a line of more than 20 bytes"),
            (b"data: 0123456789\n" * 3, "an event of more than 30 bytes"),
            (b"data: 0123456\n\n" * 7, "more than 100 bytes"),
        ],
    )
    def test_bounds(self, stream, what):
        """
        Lines, events and the whole are bounded: no server fills the memory.
        """
        last = read(stream, longest_line=20, longest_event=30, longest_stream=100)[-1]

        assert Fault("size", what) == last

    @pytest.mark.parametrize(
        "stream",
        [b"data: " + b"x" * 14 + b"\n\n", b"data: 0123456789\n" * 2 + b"data: 01234567\n\n", b"data: 012\n\n" * 9],
    )
    def test_what_is_just_short_enough(self, stream):
        """
        The bounds themselves are allowed.
        """
        assert all(
            isinstance(item, Event) for item in read(stream, longest_line=20, longest_event=30, longest_stream=99)
        )

    def test_nothing_comes_after_the_end(self):
        """
        A finished reader gives nothing more.
        """
        reader = EventReader()
        reader.feed(b"data: x")

        assert ([Event("", "x")], [], []) == (reader.finish(), reader.feed(b"data: y\n\n"), reader.finish())

    def test_events_come_as_soon_as_they_are_whole(self):
        """
        A lone CR ends a line at once: nobody waits for an LF that may not come.
        """
        reader = EventReader()

        assert [[], [Event("", "x")], [], [Event("", "y")]] == [
            reader.feed(part) for part in (b"data: x\r", b"\r", b"\ndata: y\r\n", b"\r")
        ]


PIECES = st.sampled_from(
    [b"data: x", b"data:", b"data", b"event: error", b"event:", b": note", b"id: 1", b"\n", b"\r", b"\r\n", b"\n\n",
     b" ",
     "data: Löwe 🦁".encode(), b"\xef\xbb\xbf", b"text", b"data: [DONE]\n\n", b"\xf0\x9f", b"data: " + b"y" * 30, b"\0"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=20).map(b"".join), st.data())
def test_any_split_gives_the_same_events(stream, data):
    """
    However the bytes come, the events are the same, also at the bounds.
    """
    bounds = {"longest_line": 25, "longest_event": 40, "longest_stream": 150}
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    parts = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    whole = read(stream, **bounds)

    assert whole == read(*parts, **bounds)
    assert whole == read(*(stream[place : place + 1] for place in range(len(stream))), **bounds)


@given(st.binary(max_size=200))
def test_any_bytes_are_read(stream):
    """
    Whatever comes, nothing is raised, and at most one fault is given, as the last item.
    """
    found = read(stream)

    assert all(isinstance(item, Event) for item in found[:-1])
