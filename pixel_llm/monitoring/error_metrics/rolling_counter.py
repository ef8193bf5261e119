"""How often something happened lately."""

from __future__ import annotations

from array import array

from pixel_llm.errors import ValidationError

#: Seconds that are told apart.
SLOT = 1.0

#: Seconds that are remembered.
HORIZON = 3600.0


#: Slots of the ring: those of the horizon, and the one that is only partly within it.
_SIZE = int(HORIZON / SLOT) + 1


class RollingCounter:
    """
    Counts over windows of up to an hour, to the second. Not safe for concurrent use; moments are those of any clock.

    It takes 28 KiB from the first count on, and never more.
    """

    __slots__ = ("_latest", "_ring")

    def __init__(self) -> None:
        # What happened in second n is at n modulo its size; made when something does.
        self._ring: array[int] | None = None
        self._latest = 0

    def add(self, now: float, number: int = 1) -> None:
        """Count *number* at the moment *now*. A moment before the last one counts as that one."""
        slot = int(now // SLOT)
        if self._ring is None:
            self._ring, self._latest = array("q", bytes(8 * _SIZE)), slot
        for passed in range(max(self._latest + 1, slot - _SIZE + 1), slot + 1):
            self._ring[passed % _SIZE] = 0
        self._latest = max(self._latest, slot)
        self._ring[self._latest % _SIZE] += number

    def add_evenly(self, since: float, now: float, number: int) -> None:
        """Count *number* that came at unknown moments from *since* to *now*: as if they had come evenly."""
        seconds = max(1, int(now // SLOT) - int(since // SLOT) + 1)
        remembered = min(seconds, int(HORIZON / SLOT))
        first = seconds - remembered
        for nth in range(first, seconds):  # whole numbers whose sum is right
            share = number * (nth + 1) // seconds - number * nth // seconds
            if share:
                self.add(now - (seconds - 1 - nth) * SLOT, share)

    def count(self, window_seconds: float, now: float) -> int:
        """
        What was counted within the last *window_seconds*; of its first second a part may be missing.

        Raises:
            ValidationError: If that is no time from a second to an hour.
        """
        oldest = int((now - checked_window(window_seconds)) // SLOT)
        ring = self._ring
        if ring is None:
            return 0
        return sum(ring[slot % _SIZE] for slot in range(max(oldest, self._latest - _SIZE) + 1, self._latest + 1))

    def rate(self, window_seconds: float, now: float) -> float:
        """The same, per second."""
        return self.count(window_seconds, now) / window_seconds


def checked_window(seconds: float) -> float:
    """
    *seconds*, if that is a window that is remembered.

    Raises:
        ValidationError: If it is not.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not SLOT <= seconds <= HORIZON:
        raise ValidationError(f"window_seconds must be from {SLOT:g} to {HORIZON:g} (got {seconds!r})")
    return float(seconds)
