"""What stacks report: frozen events, and the listeners that take them."""

from pixel_llm.events.listeners import Listener, Listeners
from pixel_llm.events.types import (
    AbandonedThreadEnded,
    AttemptFailed,
    CallFailed,
    CallQueued,
    CallRecovered,
    CallRefused,
    CallWouldBeRefused,
    ChaosInjected,
    CircuitStateChanged,
    Event,
    FallbackServed,
    FallbackSkipped,
    PolicyReloaded,
    PolicyReloadFailed,
    RetryScheduled,
    ThreadAbandoned,
)

__all__ = [
    "AbandonedThreadEnded",
    "AttemptFailed",
    "CallFailed",
    "CallQueued",
    "CallRecovered",
    "CallRefused",
    "CallWouldBeRefused",
    "ChaosInjected",
    "CircuitStateChanged",
    "Event",
    "FallbackServed",
    "FallbackSkipped",
    "Listener",
    "Listeners",
    "PolicyReloadFailed",
    "PolicyReloaded",
    "RetryScheduled",
    "ThreadAbandoned",
]
