"""What became of the calls of the last minute: failures by the second, successes by what was seen at each look."""

from __future__ import annotations

from pixel_llm.monitoring.counts import Counts
from pixel_llm.monitoring.snapshot.model import RecentCalls

#: Seconds that are looked back.
WINDOW = 60.0

#: Seconds between two looks that are remembered, but for the latest: some seventeen are.
_APART = WINDOW / 15


class Recent:
    """
    The calls of one target lately. Safe for concurrent use; takes no lock, and no more memory than a minute needs.

    Failures are counted by the second. Successes tell nobody: those between two looks are taken to have come evenly.

    Args:
        since: The moment from which on is counted, in seconds of the clock that gives all others.
    """

    __slots__ = ("_looks", "_seconds")

    def __init__(self, since: float) -> None:
        self._seconds: dict[int, Counts[bool]] = {}
        # Replaced as a whole: of two looks at the same moment one may be forgotten, which costs nothing.
        self._looks: tuple[tuple[float, int], ...] = ((since, 0),)

    def fail(self, now: float, *, refused: bool) -> None:
        """Count a call that failed, *refused* if a limit of ours did so."""
        second = int(now)
        counts = self._seconds.get(second)
        if counts is None:
            counts = self._seconds.setdefault(second, Counts())
            for old in [one for one in self._seconds.copy() if one < second - WINDOW]:
                self._seconds.pop(old, None)
        counts.add(refused)

    def look(self, now: float, succeeded: int) -> RecentCalls:
        """The calls of the last minute, where *succeeded* have until now since the start."""
        begins = now - WINDOW
        failed = refused = 0
        if self._seconds:
            for second, counts in self._seconds.copy().items():
                if second > begins - 1:
                    read = counts.read()
                    failed += read.get(False, 0)
                    refused += read.get(True, 0)
        looks = self._looks
        if now - looks[-1][0] >= 1:
            self._looks = (*_worth_keeping(looks, begins), (now, succeeded))
        within = succeeded - _known_at(begins, looks, now, succeeded)
        return RecentCalls(succeeded=round(within) if within > 0 else 0, failed=failed, refused=refused)


def _known_at(moment: float, looks: tuple[tuple[float, int], ...], now: float, succeeded: int) -> float:
    """How many had succeeded at a *moment* before *now*."""
    since, before = looks[0]
    if since < moment:
        for until, after in (*looks[1:], (now, succeeded)):
            if until > moment:
                return before + (after - before) * (moment - since) / (until - since)
            since, before = until, after
    return before


def _worth_keeping(looks: tuple[tuple[float, int], ...], begins: float) -> tuple[tuple[float, int], ...]:
    """Those of the window and the last one before it; where the last two are close together, the earlier one."""
    kept = looks[sum(moment <= begins for moment, _ in looks[1:]) :]
    return kept[:-1] if len(kept) > 1 and kept[-1][0] - kept[-2][0] < _APART else kept
