"""From the bytes of a policy file to text: UTF-8, and no character that YAML forbids or that nobody sees."""

from __future__ import annotations

import re

from pixel_llm.errors import Place, PolicyError, Problem

UNREADABLE = "PL001"

#: All but what a YAML text may hold (yaml.org/spec/1.2.2, section 5.1). A byte order mark within it is left
#: out on purpose: YAML lets it be a part of names.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def decode(data: bytes, name: str) -> str:
    """
    The text of the file *name*, without a byte order mark at its start.

    Raises:
        PolicyError: If it is no text, at the first place that shows it.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        what = "is UTF-16; save it as UTF-8" if data.startswith(_UTF_16) else "is not UTF-8 text"
        place = _place_at_end(data[: exc.start].decode("utf-8-sig", errors="ignore"), name)
        raise PolicyError([Problem(place, "", what, UNREADABLE)]) from exc
    if (match := _FORBIDDEN.search(text)) is not None:
        place = _place_at_end(text[: match.start()], name)
        raise PolicyError([Problem(place, "", _describe(match.group()), UNREADABLE)])
    return text


def _place_at_end(text: str, name: str) -> Place:
    *before, last = _LINE_BREAK.split(text)
    return Place(name, len(before) + 1, len(last) + 1)


def _describe(char: str) -> str:
    code = ord(char)
    if code == 0:
        return "holds a NUL character: it is UTF-16, or no text at all"
    if char == "\ufeff":
        return "a byte order mark (U+FEFF) stands within the text: remove it"
    escape = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return f'the character U+{code:04X} is not allowed: remove it, or write "{escape}" in double quotes'
