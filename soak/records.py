"""What was seen while a schedule was played."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from soak.schedule import Caller, CallPlan


@dataclass(slots=True, eq=False)
class Attempt:
    """
    One run of a callable. Moments are seconds on the schedule's clock.

    Attributes:
        place: What was called: a target, or one in place of it.
        began: Its place among all that happened; *ended* likewise, once it has.
        let_go: Likewise, when the stream of it was dropped: the event loop then ends its code soon, without its slot.
        delivered: Of a stream: how many chunks it gave.
        complete: It came to its good end.
    """

    call: Call
    place: str
    number: int
    begins: float
    began: int
    ends: float | None = None
    ended: int | None = None
    let_go: int | None = None
    raised: Exception | None = None
    delivered: int = 0
    complete: bool = False


@dataclass(slots=True)
class Read:
    """One asking for a chunk; *paused* is how long the stream had lain before."""

    began: float
    ended: float
    paused: float


@dataclass(slots=True, eq=False)
class Call:
    """
    One guarded call.

    Attributes:
        outer: The attempt that makes it, if it is a nested one.
        ends: How often it ended; must become 1.
        cancelled: The moment at which it was asked to end.
        closed: The moment at which somebody else closed its stream.
        first_policy: Which policy it began under, by number: this one, or one up to *last_policy*.
        state: ``planned``, ``begun``, or what it ended with: ``value``, ``error``, ``cancelled``, ``interrupted``;
            ``left`` if its stream was, ``paused`` if that was let lie for too long; ``never`` if it was cancelled
            before it could begin.
        attempts: Those of its own target.
        elsewhere: Those of what it calls besides, by place.
        chunks: What its stream has delivered.
    """

    caller: Caller
    plan: CallPlan
    name: str
    outer: Attempt | None = None
    begins: float = 0.0
    ended_at: float = 0.0
    ends: int = 0
    cancelled: float | None = None
    closed: float | None = None
    first_policy: int = 0
    last_policy: int | None = None
    state: str = "planned"
    value: Any = None
    outcome: Any = None
    error: BaseException | None = None
    attempts: list[Attempt] = field(default_factory=list)
    elsewhere: list[Attempt] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    chunks: list[Any] = field(default_factory=list)

    @property
    def is_stream(self) -> bool:
        """Whether it asks for a stream."""
        return self.plan.reading is not None

    @property
    def is_nested(self) -> bool:
        """Whether another call makes it."""
        return self.outer is not None

    @property
    def cache_key(self) -> object:
        """What names it in caches: streams and values are not the same."""
        return ("stream", self.plan.key) if self.is_stream else self.plan.key


@dataclass(frozen=True, slots=True)
class Value:
    """What a successful attempt returns: for which key, when, by which attempt, and the tokens it has used."""

    key: int
    made: float
    attempt: int = -1
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Chunk(Value):
    """What a stream delivers. *index* counts from 0; the first one says the tokens of all."""

    index: int = 0


def tokens_of(result: Any) -> int:
    """What *result*, a value or all the chunks of a stream, has used."""
    if isinstance(result, tuple):
        return sum(map(tokens_of, result))
    return result.tokens if isinstance(result, Value) else 0
