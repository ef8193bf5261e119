"""What somebody must have who wants to see calls begin and end. :mod:`pixel_llm.opentelemetry` has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Tracer(Protocol):
    """
    Is told when a call begins, in the thread or task of the caller; must be safe for concurrent use.

    What it, or a span of it, raises is reported once and harms no call. Neither may block.
    """

    def call(self, target: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Span:
        """A call of *target* begins."""


class Span(Protocol):
    """A call or an attempt, from its beginning on."""

    def enter(self) -> Any:
        """
        The running code is part of it now.

        That of a stream is for each of its steps, whichever thread or task asks for them.

        Returns:
            What :meth:`leave` is to be given; not None.
        """

    def leave(self, entered: Any) -> None:
        """The running code is part of it no longer. Not told of code that was dropped before its end."""

    def attempt(self, target: str) -> Span:
        """An attempt of it begins: *target* is its own, or one of its places or of its fallback's."""

    def request(self, method: str, url: str) -> RequestSpan:
        """An HTTP request is sent for it."""

    def chunk(self, chunk: Any) -> None:
        """Its stream has delivered a chunk."""

    def end(self, result: Any, error: BaseException | None) -> None:
        """
        It has ended, in a *result* or in an *error*; told once.

        The result of a call is its :class:`Outcome`; a stream's call has one even if it ends in an error. That of an
        attempt is the value, None for a stream. What is left before its end, closed or dropped, ends in GeneratorExit.
        """


class RequestSpan(Protocol):
    """
    An HTTP request.

    Attributes:
        headers: What is sent with it, so that the server can tell of its part.
    """

    headers: Mapping[str, str]

    def answered(self, status: int) -> None:
        """The headers of the answer have come."""

    def end(self, error: BaseException | None) -> None:
        """Its answer has been read, or it has failed."""
