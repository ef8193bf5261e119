"""Did you mean …?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str]) -> str:
    """``; did you mean "retry"?`` if something known is close to *name*, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def one_of(names: Iterable[str]) -> str:
    """``a, b or c``."""
    *most, last = list(names)
    return f"{', '.join(most)} or {last}" if most else last
