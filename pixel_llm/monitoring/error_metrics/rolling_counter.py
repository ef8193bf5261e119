"""How often something happened lately."""

from __future__ import annotations

from collections import deque

from pixel_llm.errors import ValidationError

#: Seconds that are told apart.
SLOT = 1.0

#: Seconds that are remembered.
HORIZON = 3600.0


class RollingCounter:
    """
    Counts over windows of up to an hour, to the second. Not safe for concurrent use; moments are those of any clock.

    Only seconds in which something happened take memory, at most 3,600 of them.
    """

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        # Number of the second, and what happened in it; the latest last.
        self._slots: deque[list[int]] = deque(maxlen=int(HORIZON / SLOT) + 1)

    def add(self, now: float, number: int = 1) -> None:
        """Count *number* at the moment *now*. A moment before the last one counts as that one."""
        slot = int(now // SLOT)
        if self._slots and self._slots[-1][0] >= slot:
            self._slots[-1][1] += number
        else:
            self._slots.append([slot, number])

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
        total = 0
        for slot, number in reversed(self._slots):
            if slot <= oldest:
                break
            total += number
        return total

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
