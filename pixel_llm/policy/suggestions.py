"""Did you mean …?"""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterable

#: No name is longer: comparing takes its time.
_LONGEST = 100

#: Of more names than this, only those of about the same length are compared.
_MOST = 1000


def suggestion(name: str, known: Iterable[str]) -> str:
    """``; did you mean "retry"?`` if something known is close to *name*, else nothing."""
    near = heapq.nsmallest(_MOST, known, key=lambda text: abs(len(text) - len(name)))
    by_lower_case = {text.lower(): text for text in near}
    close = difflib.get_close_matches(name[:_LONGEST].lower(), by_lower_case, n=1, cutoff=0.6)
    return f'; did you mean "{by_lower_case[close[0]]}"?' if close else ""


def one_of(names: Iterable[str]) -> str:
    """``a, b or c``."""
    *most, last = list(names)
    return f"{', '.join(most)} or {last}" if most else last
