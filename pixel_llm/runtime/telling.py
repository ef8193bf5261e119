"""Whom policies tell of what happens, and what is nobody's news."""

from __future__ import annotations

from pixel_llm.events import (
    AttemptFailed,
    CallFailed,
    CallRefused,
    Event,
    FallbackServed,
    FallbackSkipped,
    Listeners,
    RetryScheduled,
)
from pixel_llm.resilience.clock import was_ended
from pixel_llm.resilience.limits import get_published

#: What a call ends in, or goes on with, that has met trouble.
_OF_TROUBLE = (AttemptFailed, CallFailed, CallRefused, FallbackServed, FallbackSkipped, RetryScheduled)


class PolicyListeners(Listeners):
    """
    The listeners of policies.

    A thread can't be cancelled: when a batch is interrupted, say, its calls go on until they see that their time was
    taken from them, and what they fail of then comes of that alone. They are told of as little as a task that was
    cancelled. What happens to breakers and threads meanwhile is told, as always.
    """

    def __call__(self, event: Event) -> None:
        """Tell every listener."""
        if isinstance(event, _OF_TROUBLE) and was_ended(get_published()[2].clock):
            return
        super().__call__(event)
