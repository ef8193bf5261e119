"""Durations that may be endless."""

from __future__ import annotations

#: An attempt that would begin this close to the deadline, in seconds, doesn't: no attempt takes less time.
GRAIN = 1e-9


def shorter(first: float | None, second: float | None) -> float | None:
    """The shorter of two durations, None being endless."""
    if first is None or second is None:
        return first if second is None else second
    return min(first, second)
