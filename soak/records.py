"""What was seen while a schedule was played."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from soak.schedule import Caller, CallPlan


@dataclass(slots=True, eq=False)
class Attempt:
    """One run of the callable. Moments are seconds on the schedule's clock."""

    call: Call
    begins: float
    ends: float | None = None
    raised: Exception | None = None


@dataclass(slots=True, eq=False)
class Call:
    """
    One guarded call.

    Attributes:
        ends: How often it ended; must become 1.
        cancelled: The moment at which it was asked to end.
        state: ``planned``, ``begun``, or what it ended with: ``value``, ``error``, ``cancelled``, ``interrupted``;
            ``never`` if it was cancelled before it could begin.
    """

    caller: Caller
    plan: CallPlan
    name: str
    begins: float = 0.0
    ended_at: float = 0.0
    ends: int = 0
    cancelled: float | None = None
    state: str = "planned"
    value: Any = None
    outcome: Any = None
    error: BaseException | None = None
    attempts: list[Attempt] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Value:
    """What a successful attempt returns: for which key, and when."""

    key: int
    made: float
