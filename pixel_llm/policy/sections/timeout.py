"""The `timeout` section: how long one attempt, or a part of it, may take."""

from __future__ import annotations

from dataclasses import dataclass

from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.kinds import Duration, Integer
from pixel_llm.policy.settings import setting
from pixel_llm.policy.showing import count


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutConfig:
    """How long an attempt, or a part of it, may take; float seconds. Immutable, safe to share between threads."""

    attempt: float | None = setting(
        Duration(),
        "How long each attempt may take; of a stream, its first content unless first_token says otherwise.",
        default=None,
        example="30s",
    )
    connect: float | None = setting(
        Duration(), "How long making a connection may take, within the attempt.", default=None, example="3s"
    )
    first_token: float | None = setting(
        Duration(),
        "How long each attempt of a stream may take to its first content; without it that is what attempt says.",
        default=None,
        example="10s",
    )
    idle: float | None = setting(
        Duration(),
        "How long a stream may wait for the server between two chunks. A consumer that pauses is not the server's "
        "fault.",
        default=None,
        example="5s",
    )
    max_pause: float | None = setting(
        Duration(),
        "How long the consumer may let a stream lie before it is closed.",
        default=None,
        example="1m",
    )
    max_abandoned_threads: int = setting(
        Integer(1, 10_000),
        "Plain sync functions run in worker threads, which run on when their time is up. When so many of the "
        "target's do, further calls are refused at once.",
        default=16,
        example=16,
    )

    @property
    def to_first_content(self) -> float | None:
        """How long an attempt of a stream may take to its first content, in seconds."""
        return self.attempt if self.first_token is None else self.first_token

    @property
    def longest_attempt(self) -> float | None:
        """How long an attempt may take, in seconds: a whole one, or that of a stream to its first content."""
        return None if self.attempt is None else max(self.attempt, self.first_token or 0.0)

    @property
    def ends_attempts(self) -> bool:
        """Whether it ends what a plain sync function, or generator, is busy with: that needs a worker thread."""
        return self.to_first_content is not None or self.idle is not None

    def in_words(self) -> str:
        """What it means, in a few words."""
        parts = (
            (self.attempt, "for each attempt"),
            (self.connect, "to connect"),
            (self.first_token, "to a stream's first content"),
            (self.idle, "for each further chunk"),
            (self.max_pause, "for the consumer of a stream to pause"),
        )
        words = [f"{format_duration(limit)} {what}" for limit, what in parts if limit is not None]
        if self.ends_attempts and self.max_abandoned_threads != TimeoutConfig().max_abandoned_threads:
            words.append(f"refused beyond {count(self.max_abandoned_threads, 'abandoned thread')}")
        return ", ".join(words) or "none"
