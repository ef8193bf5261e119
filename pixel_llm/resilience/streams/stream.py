"""What the streams of both worlds share: what they know, and what is served where they failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from typing import Any

from pixel_llm.policy import FallbackStrategy
from pixel_llm.resilience.call import Call
from pixel_llm.resilience.outcome import SERVED_BY_CALL, Outcome
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.streams.arrival import Chunks
from pixel_llm.resilience.streams.delivery import END, Delivery


class Stream:
    """
    A guarded stream. Its code runs, and its time counts, from when its first chunk is asked for.

    Args:
        stack: The layers.
    """

    #: Sees in so many seconds whether the consumer has let it lie for too long.
    _look_after: Callable[[float], None]

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._call: Call | None = None
        #: There from the first content on.
        self._delivery: Delivery | None = None
        #: What a fallback serves in its place: an iterator of this world.
        self._substitute: Any = None
        #: True once there is nothing more to ask for.
        self._is_over = False
        #: What the next one who asks must be told.
        self._error: Exception | None = None
        self._chunks = 0
        self._ended = inf

    @property
    def target(self) -> str:
        """The target that it is a call of."""
        return self._stack.target

    def outcome(self) -> Outcome[int]:
        """
        How it came about: who serves, after how many attempts, and, as its value, how many chunks were delivered.

        Complete when the stream has ended; until then it says how it is by now. The error that a fallback stands in
        for has no traceback.
        """
        call = self._call
        if call is None:
            return Outcome(value=0, served_by=SERVED_BY_CALL, degraded=False, attempts=0, elapsed=0.0)
        return call.outcome(self._chunks, min(self._ended, self._stack.clock.monotonic()))

    def _begun(self, value: Begun | Delivery) -> Any:
        """The first chunk of what the call gave, or :data:`END`; the others follow."""
        if isinstance(value, Begun):
            self._let_go_of_frames()
            self._substitute = value.rest
            return value.first
        self._delivery = value
        first, value.first = value.first, None
        chunk = self._deliver(value, first)
        if not self._is_over and value.timeout.max_pause is not None:
            self._look_after(value.rest_of_pause())
        return chunk

    def _let_go_of_frames(self) -> None:
        """
        A fallback serves: forget in which frames the error was raised that it stands in for.

        The outcome keeps that error for as long as the stream lives. Its traceback leads back to the stream, and to
        whoever reads it: dropped, the stream would only end when garbage is collected.
        """
        assert self._call is not None  # noqa: S101 - something has been asked for
        error: BaseException | None = self._call.error
        seen = set[int]()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            error.__traceback__ = None
            error = error.__cause__ or error.__context__

    def _deliver(self, delivery: Delivery, chunk: Any) -> Any:
        """Hand out what the source gave, a chunk or :data:`END`."""
        if chunk is not END:
            return delivery.deliver(chunk)
        self._end()
        delivery.ended()
        return END

    def _end(self) -> None:
        """There is nothing more to ask for."""
        self._is_over = True
        self._ended = self._stack.clock.monotonic()

    def _raise_error(self) -> None:
        """Tell whoever asks what has become of it meanwhile, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error


@dataclass(frozen=True, slots=True)
class Begun:
    """A stream that a fallback serves: its first chunk, or :data:`END`, and the iterator over the others."""

    first: Any
    rest: Any


def chunks_of(value: Any, call: Call) -> Iterable[Any]:
    """What a fallback's *value* is as a stream: its chunks if it was one, none for `none`, else it is the only one."""
    if type(value) is Chunks:
        return value
    return () if call.served_by == FallbackStrategy.NONE.value else (value,)
