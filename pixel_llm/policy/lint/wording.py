"""Words that messages of several rules share."""

from __future__ import annotations

from pixel_llm.policy.durations import format_duration


def duration(seconds: float) -> str:
    """A computed duration, to the millisecond."""
    return format_duration(round(seconds, 3))
