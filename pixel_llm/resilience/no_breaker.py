"""What stands in a breaker's place where there is none."""

from __future__ import annotations


class NoBreaker:
    """What stands in a breaker's place where there is none: it lets everything through and counts nothing."""

    eventful = False

    def __init__(self, closed_period: int) -> None:
        self.closed_period = closed_period

    def check(self) -> None:
        """Refuse nobody."""

    def acquire(self) -> int:
        """Let everybody in."""
        return 0

    def record_success(self, permit: int, elapsed: float) -> None:
        """Count nothing."""

    def record_failure(self, permit: int, error: Exception, elapsed: float) -> None:
        """Count nothing."""

    def release(self, permit: int) -> None:
        """Count nothing."""


NO_BREAKER = NoBreaker(0)

#: Sends everybody on the long road.
NO_SHORT_ROAD = NoBreaker(-1)
