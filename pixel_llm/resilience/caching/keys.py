"""The keys of calls in caches, which come from functions of the program."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from pixel_llm.events.trouble import report_trouble


class CallKey:
    """
    What names a call in caches, so that comparing it can't fail: equal to another one if what it holds is.

    A failure in the midst of a cache's bookkeeping would leave it half done. Keys that can't be compared are not
    equal, so that such calls share nothing; the log says so once for each kind of them. Immutable.

    Args:
        value: What the program's function gave. It is hashed here, and only here.
    """

    __slots__ = ("_hash", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self._hash = hash(value)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        theirs = other.value if type(other) is CallKey else other
        if self.value is theirs:
            return True
        try:
            return bool(self.value == theirs)
        except Exception:  # noqa: BLE001 - somebody else's comparison
            _complain(type(self.value).__qualname__)
            return False


@cache
def _complain(kind: str) -> None:
    report_trouble(
        "keys of the type %s can't be compared, so that their calls share no results: mend its __eq__",
        kind,
        level=logging.WARNING,
    )
