"""What stands in a breaker's place where there is none."""

from __future__ import annotations

from typing import Any


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

    def would_refuse(self) -> bool:
        """Never."""
        return False

    def retry_after(self) -> float:
        """At once."""
        return 0.0


class NoKeyYet(NoBreaker):
    """What a target that has a breaker for each key has for all: a call must ask its own, :attr:`Call.gate`."""

    def __init__(self) -> None:
        super().__init__(-1)

    def _fail(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("this target has a breaker for each key: ask that of the call")

    check = acquire = record_success = record_failure = release = would_refuse = _fail


NO_BREAKER = NoBreaker(0)
NO_KEY_YET = NoKeyYet()

#: Sends everybody on the long road.
NO_SHORT_ROAD = NoBreaker(-1)
