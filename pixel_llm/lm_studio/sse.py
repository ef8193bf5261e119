"""Server-sent events out of bytes, as they come: pure, incremental and bounded, for both worlds."""

from __future__ import annotations

from typing import NamedTuple

#: A line, and the data of one event, are no longer than this, in bytes. A chunk of a chat has some hundred.
LONGEST_LINE = 1024 * 1024
LONGEST_EVENT = 4 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"
#: The fields of the standard that say nothing to us.
_PASSED_BY = (b"id", b"retry")


class Event(NamedTuple):
    """One event: its *name*, which is empty where none is told, and its *data*, lines joined by line feeds."""

    name: str
    data: str


class Fault(NamedTuple):
    """
    Where the stream stops being one: nothing comes after it.

    *reason* is ``text`` for a line that belongs to no event, which *text* begins with, or ``size``, with *text*
    saying what was too long.
    """

    reason: str
    text: str


class EventReader:
    """
    Is fed bytes, gives events: the same ones however the bytes are split.

    It follows the event stream format of the HTML standard (section 9.2.6): lines end in LF, CR or CRLF, a byte order
    mark and comments are skipped, ``data`` lines are joined. It differs in three things, since what comes from a server
    in trouble must not be lost: text that is no field is a :class:`Fault`, an event with a name needs no data, and what
    is unfinished at the end is given by :meth:`finish`.

    Not thread-safe: it belongs to whoever reads the stream.

    Args:
        longest_line: The most bytes of one line.
        longest_event: The most bytes of one event's data.
        longest_stream: The most bytes of all.
    """

    __slots__ = (
        "_begun",
        "_data",
        "_event_size",
        "_left",
        "_longest_event",
        "_longest_line",
        "_longest_stream",
        "_name",
        "_over",
        "_rest",
        "_skip_feed",
    )

    def __init__(
        self,
        *,
        longest_line: int = LONGEST_LINE,
        longest_event: int = LONGEST_EVENT,
        longest_stream: int = 16 * 1024 * 1024,
    ) -> None:
        self._longest_line, self._longest_event = longest_line, longest_event
        self._longest_stream = self._left = longest_stream
        self._rest = bytearray()  # of a line whose end has not come
        self._skip_feed = False  # the last byte was a CR: an LF belongs to it
        self._begun = self._over = False
        self._name = ""
        self._data: list[str] = []
        self._event_size = 0

    def feed(self, part: bytes) -> list[Event | Fault]:
        """Read the next bytes; gives what they complete."""
        found: list[Event | Fault] = []
        if self._over or not part:
            return found
        too_much = len(part) > self._left
        if too_much:
            part = part[: self._left]
        self._left -= len(part)
        if self._skip_feed and part:
            self._skip_feed = False
            if part[0] == 10:
                part = part[1:]
        lines = part.splitlines()
        if part:
            last = part[-1]
            self._skip_feed = last == 13
            tail = b"" if last in (10, 13) else lines.pop()
            if self._rest and lines:
                lines[0] = bytes(self._rest) + lines[0]
                self._rest.clear()
            self._take_lines(lines, found)
            self._rest += tail
        if len(self._rest) > self._longest_line:
            self._give_up(found, f"a line of more than {self._longest_line} bytes")
        if too_much:
            self._give_up(found, f"more than {self._longest_stream} bytes")
        return found

    def finish(self) -> list[Event | Fault]:
        """The bytes have ended; gives what was unfinished. The reader is used up."""
        found: list[Event | Fault] = []
        if not self._over:
            self._take_lines([bytes(self._rest), b""] if self._rest else [b""], found)
        self._over = True
        return found

    def _take_lines(self, lines: list[bytes], found: list[Event | Fault]) -> None:
        for line in lines:
            if self._over:
                return
            if len(line) > self._longest_line:
                self._give_up(found, f"a line of more than {self._longest_line} bytes")
                return
            if not self._begun:
                self._begun = True
                line = line.removeprefix(_BOM)
            if not line:
                self._dispatch(found)
            elif line.startswith(b"data:"):
                self._take_data(line[6:] if line[5:6] == b" " else line[5:], found)
            else:
                self._take_field(line, found)

    def _take_data(self, value: bytes, found: list[Event | Fault]) -> None:
        self._event_size += len(value) + 1
        if self._event_size > self._longest_event + 1:
            self._give_up(found, f"an event of more than {self._longest_event} bytes")
        else:
            self._data.append(value.decode("utf-8", "replace"))

    def _take_field(self, line: bytes, found: list[Event | Fault]) -> None:
        name, _, value = line.partition(b":")
        if name == b"event":
            self._name = value.removeprefix(b" ").decode("utf-8", "replace")
        elif name == b"data":  # without a colon
            self._take_data(b"", found)
        elif name and name not in _PASSED_BY and line.strip():  # without a name it is a comment
            self._over = True
            found.append(Fault("text", line.decode("utf-8", "replace")))

    def _dispatch(self, found: list[Event | Fault]) -> None:
        data = self._data
        if data:
            found.append(Event(self._name, data[0] if len(data) == 1 else "\n".join(data)))
            data.clear()
        elif self._name:
            found.append(Event(self._name, ""))
        self._name = ""
        self._event_size = 0

    def _give_up(self, found: list[Event | Fault], what: str) -> None:
        if not self._over:
            self._over = True
            found.append(Fault("size", what))
