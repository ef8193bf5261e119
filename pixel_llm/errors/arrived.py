"""What had arrived of a stream when it broke."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, repr=False)
class Arrived:
    """
    What a stream had delivered before it ended in an error. Immutable.

    The content stays in this process: neither pickles nor texts have it, since it may be what nobody else should read.

    Attributes:
        chunks: How many chunks were delivered.
        content: The chunks themselves, the first ones where there were more than are kept.
        complete: Whether *content* has all of them.
    """

    chunks: int
    content: tuple[Any, ...] = ()
    complete: bool = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}(chunks={self.chunks})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.chunks,)
