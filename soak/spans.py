"""A tracer that notes what it is told, so that it can be held against what happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from soak.records import Call


class Span:
    """
    A call, or an attempt of one.

    It keeps nothing of errors but their type: their frames hold streams.

    Attributes:
        target: What is called.
        call: Whose it is.
        around: The span in which it began; None for a call.
        inside: How often it was entered and not left.
        ends: The types of what it ended in, None for a result: one, if all is well.
        attempts: Those of it.
    """

    def __init__(self, target: str, call: Call, around: Span | None = None) -> None:
        self.target = target
        self.call = call
        self.around = around
        self.inside = 0
        self.ends: list[type[BaseException] | None] = []
        self.attempts: list[Span] = []

    def enter(self) -> Span:
        """It is entered."""
        self.inside += 1
        return self

    def leave(self, entered: Span) -> None:
        """It is left."""
        self.inside -= 1

    def attempt(self, target: str) -> Span:
        """An attempt begins."""
        span = Span(target, self.call, self)
        self.attempts.append(span)
        return span

    def chunk(self, chunk: Any) -> None:
        """A chunk is delivered."""

    def end(self, result: Any, error: BaseException | None) -> None:
        """It ends."""
        self.ends.append(None if error is None else type(error))


class Tracer:
    """
    Makes the spans.

    Attributes:
        calls: Those of the calls, in the order in which they began.
    """

    def __init__(self) -> None:
        self.calls: list[Span] = []

    @property
    def has_open(self) -> bool:
        """Whether a call's span has not ended yet."""
        return any(not span.ends for span in self.calls)

    def call(self, target: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Span:
        """A call begins."""
        span = Span(target, args[0])
        self.calls.append(span)
        return span
