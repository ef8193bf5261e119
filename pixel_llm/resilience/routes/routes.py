"""What a guard must know of a callable whose calls can go to several places."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Guide(Protocol):
    """
    Knows the places: which of them is to be asked first, and what must be done before. Safe for concurrent use.

    *args* are the positional arguments of the call.
    """

    def order(self, args: tuple[Any, ...]) -> Sequence[str]:
        """The names of the places, best first, for one attempt. It must neither block nor raise."""

    def prepare(self, name: str, args: tuple[Any, ...]) -> None:
        """
        Get a place ready for a call, within :func:`pixel_llm.resilience.current_limits`.

        What it raises is an error of that place, which its breaker does not hear of.
        """

    async def prepare_async(self, name: str, args: tuple[Any, ...]) -> None:
        """The same, in a task."""

    def enter(self, name: str) -> None:
        """A call goes there: it may be prepared first, or wait in a queue."""

    def leave(self, name: str) -> None:
        """The call, or the whole stream, is over."""

    def answered(self, name: str, args: tuple[Any, ...]) -> None:
        """The place has given a result, or the first content of a stream."""

    def failed(self, name: str, error: Exception) -> None:
        """The place was asked, and gave *error* instead. It must not keep that: its traceback holds the call."""


@dataclass(frozen=True, slots=True)
class Routes:
    """
    The places that calls can go to. Immutable.

    Attributes:
        functions: What makes the call at each of them, by name; all of the world of the guarded callable.
        guide: Says which is asked.
    """

    functions: Mapping[str, Callable[..., Any]]
    guide: Guide
