"""Counting what a stream delivers, and keeping the first of it."""

from __future__ import annotations

import sys
from typing import Any

from pixel_llm.errors import Arrived

#: What is kept of one stream: so many chunks, of so many bytes together.
MAX_CHUNKS = 1000
MAX_BYTES = 1024 * 1024


class Chunks(tuple[Any, ...]):
    """The chunks of a whole stream, as the fallback's cache keeps them."""

    __slots__ = ()


class Arrival:
    """
    What has been delivered of one stream. Belongs to whoever reads it.

    Memory is bounded: the first chunks are kept, :data:`MAX_CHUNKS` and :data:`MAX_BYTES` at most, by their own
    size: that of what they refer to is not looked at.

    Attributes:
        chunks: How many chunks were delivered.
    """

    __slots__ = ("_bytes", "_kept", "chunks")

    def __init__(self) -> None:
        self.chunks = 0
        self._kept: list[Any] = []
        self._bytes = 0

    def add(self, chunk: Any) -> None:
        """One more was delivered."""
        if len(self._kept) == self.chunks < MAX_CHUNKS:  # else one was not kept already
            self._bytes += sys.getsizeof(chunk)
            if self._bytes <= MAX_BYTES:
                self._kept.append(chunk)
        self.chunks += 1

    def whole(self) -> Chunks | None:
        """All that was delivered; None if not all of it was kept."""
        return Chunks(self._kept) if len(self._kept) == self.chunks else None

    def so_far(self) -> Arrived:
        """What an error tells of it."""
        return Arrived(self.chunks, tuple(self._kept), len(self._kept) == self.chunks)
