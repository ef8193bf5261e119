"""What is recorded, point by point: for histories and callbacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class MetricType(StrEnum):
    """What a point is about."""

    ERROR = "error"
    SUCCESS = "success"
    RETRY = "retry"
    CIRCUIT_STATE_CHANGE = "circuit_state_change"
    FALLBACK_ACTIVATION = "fallback_activation"
    LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """
    One thing that was recorded. Immutable.

    Attributes:
        metric_type: What it is about.
        at: When, in seconds since 1970.
        name: An error's code or else its type, a breaker's new state, a fallback's step; else empty.
        value: Seconds, for a latency and a retry; else 1.
        target: What it belongs to, or the breaker's name; may be empty.
    """

    metric_type: MetricType
    at: float
    name: str
    value: float
    target: str


#: Takes a point and returns nothing. It runs in the thread that recorded it, so it must not block.
Callback: TypeAlias = Callable[[MetricPoint], None]
