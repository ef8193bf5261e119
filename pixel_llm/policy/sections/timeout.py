"""The `timeout` section: how long one attempt may take."""

from __future__ import annotations

from dataclasses import dataclass

from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.kinds import Duration, Integer
from pixel_llm.policy.settings import setting
from pixel_llm.policy.showing import count


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutConfig:
    """How long an attempt, or a part of it, may take; float seconds. Immutable, safe to share between threads."""

    attempt: float | None = setting(Duration(), "How long each attempt may take.", default=None, example="30s")
    connect: float | None = setting(
        Duration(), "How long making a connection may take, within the attempt.", default=None, example="3s"
    )
    max_abandoned_threads: int = setting(
        Integer(1, 10_000),
        "Plain sync functions run in worker threads, which run on when their time is up. When so many of the "
        "target's do, further calls are refused at once.",
        default=16,
        example=16,
    )

    def in_words(self) -> str:
        """What it means, in a few words."""
        parts = []
        if self.attempt is not None:
            parts.append(f"{format_duration(self.attempt)} for each attempt")
        if self.connect is not None:
            parts.append(f"{format_duration(self.connect)} to connect")
        if self.attempt is not None and self.max_abandoned_threads != TimeoutConfig().max_abandoned_threads:
            parts.append(f"refused while {count(self.max_abandoned_threads, 'abandoned thread')} run on")
        return ", ".join(parts) or "none"
