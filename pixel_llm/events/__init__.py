"""What stacks report: frozen events, and the listeners that take them."""

from pixel_llm.events.listeners import Listener, Listeners
from pixel_llm.events.types import (
    AttemptFailed,
    CallFailed,
    CallRecovered,
    CallRefused,
    CircuitStateChanged,
    Event,
    FallbackServed,
    FallbackSkipped,
    RetryScheduled,
)

__all__ = [
    "AttemptFailed",
    "CallFailed",
    "CallRecovered",
    "CallRefused",
    "CircuitStateChanged",
    "Event",
    "FallbackServed",
    "FallbackSkipped",
    "Listener",
    "Listeners",
    "RetryScheduled",
]
