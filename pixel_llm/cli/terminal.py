"""Text on its way to a terminal."""

from __future__ import annotations


def printable(text: str, *, keep_lines: bool = False) -> str:
    """*text* with what would move the cursor, ring, or rename the window escaped; line ends too unless *keep_lines*."""
    kept = "\n\t" if keep_lines else ""
    return "".join(
        char if char.isprintable() or char in kept else char.encode("unicode_escape").decode() for char in text
    )
