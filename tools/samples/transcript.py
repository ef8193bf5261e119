"""What a reader types and sees: commands after ``$``, and below each what it prints."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: A line of it stands for any lines, in a line it stands for any text.
ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A command, as it is written and as a shell reads it, and the output that is shown below it."""

    written: str
    command: str
    shown: str


def read_transcript(text: str) -> list[Exchange]:
    """The commands of a ``console`` block. Lines that begin with ``> `` go on with the command above them."""
    exchanges: list[Exchange] = []
    for part in re.split(r"^(?=\$ )", text, flags=re.MULTILINE):
        if not part.startswith("$ "):
            if part.strip():
                raise ValueError(f"output before the first command: {part.splitlines()[0]!r}")
            continue
        lines = part.splitlines()
        size = 1
        while size < len(lines) and lines[size].startswith("> "):
            size += 1
        command = "\n".join(line[2:] for line in lines[:size])
        exchanges.append(Exchange("\n".join(lines[:size]), command, "\n".join(lines[size:])))
    return exchanges


def agrees(shown: str, printed: str, *, begins: bool = False) -> bool:
    """True if *printed* is what is *shown*, but for ellipses and spaces at the ends; or *begins* with it."""
    pattern = "".join(_pattern(line) for line in shown.strip("\n").splitlines())
    text = "".join(f"{line.rstrip()}\n" for line in printed.strip("\n").splitlines())
    return re.fullmatch(f"{pattern}(.*\n)*" if begins else pattern, text) is not None


def _pattern(line: str) -> str:
    if line.strip() == ELLIPSIS:
        return "(?:.*\n)*?"
    return re.escape(line.rstrip()).replace(re.escape(ELLIPSIS), ".*?") + "\n"
