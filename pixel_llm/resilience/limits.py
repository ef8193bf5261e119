"""
The time that is left, handed down to everything a call does.

A stack publishes its limits in a context variable; nested stacks inherit them,
and sockets read them before every single read and write.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock


@dataclass(frozen=True, slots=True)
class Limits:
    """
    How long the work under way may take. Immutable.

    *deadline* and *attempt_ends* are moments on *clock* (seconds), *connect* is a
    duration in seconds; None means no limit of this kind. *inherited* tells whether the
    deadline is the caller's rather than the target's own.
    """

    clock: Clock = SYSTEM_CLOCK
    deadline: float | None = None
    attempt_ends: float | None = None
    connect: float | None = None
    inherited: bool = False

    @property
    def ends(self) -> float | None:
        """The moment at which the current attempt must be over: the nearer of the two."""
        if self.attempt_ends is None:
            return self.deadline
        return self.attempt_ends if self.deadline is None else min(self.deadline, self.attempt_ends)

    def remaining(self) -> float | None:
        """Seconds left for the current attempt, not below 0, or None without a limit."""
        ends = self.ends
        return None if ends is None else max(0.0, ends - self.clock.monotonic())

    def deadline_passed(self) -> bool:
        """True once the whole call, not just its attempt, is out of time."""
        return self.deadline is not None and self.clock.monotonic() >= self.deadline


NO_LIMITS = Limits()

_current: ContextVar[Limits] = ContextVar("pixel_llm_limits", default=NO_LIMITS)

#: Read and set by the stacks on their hot path; everyone else calls :func:`current_limits`.
limits_variable = _current


def current_limits() -> Limits:
    """The limits of the call under way in this thread or task; without one, no limits."""
    return _current.get()
