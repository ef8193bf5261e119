"""A stream from its first content on, and what both worlds decide about it."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from itertools import count
from math import inf
from typing import Any

from pixel_llm.errors import ErrorCode, LimitExceeded, TimeoutError
from pixel_llm.events import StreamAbandoned
from pixel_llm.policy import TimeoutConfig
from pixel_llm.resilience.call import Call
from pixel_llm.resilience.clock import was_ended
from pixel_llm.resilience.limits import Published, Terms, get_published, lift
from pixel_llm.resilience.queues.admission import Admission
from pixel_llm.resilience.recovery import Recovery
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.streams.arrival import Arrival
from pixel_llm.resilience.streams.later import LATER

#: What a source gives when there are no more chunks.
END: Any = object()


class _NoFlight:
    """The ticket of a call that nobody follows, since the cache which is read through has no streams."""

    def leave(self) -> None:
        """Tell nobody."""

    def fail(self, error: Exception) -> None:
        """Tell nobody."""


PASSES_BY: Any = _NoFlight()

#: Makes the error of a step whose limits have ended.
Cut = Callable[[Published], Exception]

#: Takes a call's key and its result, for the fallback's cache.
Keep = Callable[[Any, Any], None]

_NO_TIMEOUT = TimeoutConfig()
_CALLERS = Terms(inherited=True)


class Slot:
    """
    The bulkhead's slot of one attempt of a stream, if there is a bulkhead.

    It goes back when two have said that they are :meth:`done`: whoever tells the breaker, so that the next one meets
    a breaker that knows; and the stream's code, which may run on long after its consumer has left.
    """

    __slots__ = ("_admission", "_done", "_elapsed", "_ok")

    def __init__(self, admission: Admission | None) -> None:
        self._admission = admission
        self._done = count()  # one step of it is a single operation of the interpreter
        self._elapsed: float | None = None
        self._ok: bool | None = None

    def said(self, elapsed: float, ok: bool | None) -> None:
        """What the attempt says of its target; see :meth:`Admission.leave`."""
        self._elapsed, self._ok = (None if ok is None else elapsed), ok

    def done(self) -> None:
        """One of the two is done. Takes no lock that a finaliser might wait for."""
        if next(self._done) == 1 and self._admission is not None:
            self._admission.leave(self._elapsed, self._ok)


class Delivery:
    """
    A stream that has delivered content, or has ended without any: it is never tried again.

    It holds the breaker's permit until it is settled, once: by :meth:`ended`, :meth:`broken` or :meth:`left`, or when
    it is garbage-collected. One thread or task may read at a time.

    Args:
        stack: The layers.
        call: The call, whose last attempt this is.
        permit: The breaker's permit of that attempt.
        source: What makes the chunks; its ``drop()`` is called by a finaliser.
        limits: What *source* finds as its limits. They are moved with every step.
        first: The first content, or :data:`END`.
        keep: Keeps the chunks for the fallback.
        slot: The bulkhead's slot of that attempt.

    Attributes:
        arrival: What was delivered.
        lies_since: The moment at which the consumer got the last chunk.
        recovery: What went wrong before.
    """

    __slots__ = (
        "_held",
        "_keep",
        "_latency",
        "_limits",
        "_slot",
        "arrival",
        "call",
        "first",
        "lies_since",
        "recovery",
        "source",
        "stack",
        "timeout",
    )

    def __init__(
        self,
        stack: Stack,
        call: Call,
        permit: int,
        source: Any,
        limits: Published,
        first: Any,
        keep: Keep | None,
        slot: Slot,
    ) -> None:
        self._held = [permit]  # until it is settled
        self.stack, self.call, self.source, self.first = stack, call, source, first
        self.timeout = stack.policy.timeout or _NO_TIMEOUT
        self.recovery: Recovery | None = None
        self.arrival = Arrival()
        self.lies_since = now = stack.clock.monotonic()
        self._latency = now - call.attempt_started, now - call.started
        self._limits, self._keep, self._slot = limits, keep, slot
        call.args, call.kwargs = (), {}  # no attempt will need them
        if stack.listener is not None:
            LATER.start()

    def __del__(self) -> None:
        if self._held:
            try:
                self.left("dropped", LATER.soon)
            finally:
                self.source.drop()

    def deliver(self, chunk: Any) -> Any:
        """Hand *chunk* to the consumer."""
        limits = self._limits
        limits[0] = limits[1]  # what the code has started goes on while the consumer pauses
        self.arrival.add(chunk)
        self.lies_since = self.stack.clock.monotonic()
        return chunk

    def next_limits(self) -> Published:
        """The limits of the next step: `idle` from now on, the deadline, and those of whoever reads."""
        limits, idle, callers = self._limits, self.timeout.idle, get_published()
        limits[1] = min(self.call.deadline, callers[0])
        limits[0] = limits[1] if idle is None else min(limits[1], self.stack.clock.monotonic() + idle)
        limits[3] = callers[3] + 1
        return limits

    def cut(self, limits: Published) -> TimeoutError:
        """The error when the *limits* of a step have ended."""
        ends, deadline, terms, *_ = limits
        if ends == deadline:
            return self.stack.timing.out_of_time(terms if deadline == self.call.deadline else _CALLERS)
        chunks = self.arrival.chunks
        text = f"nothing came for {self.timeout.idle:g} s after {chunks} chunk{'s' if chunks > 1 else ''}"
        return TimeoutError(text, error_code=ErrorCode.ERR_TIMEOUT_IDLE, target=self.stack.target)

    def closing_ends(self) -> float:
        """The moment until which the consumer waits for the code to end: as long as for a chunk."""
        timeout = self.timeout
        longest = timeout.to_first_content if timeout.idle is None else timeout.idle
        return inf if longest is None else self.stack.clock.monotonic() + longest

    def rest_of_pause(self) -> float:
        """Seconds for which the consumer may still let it lie; inf without `max_pause`."""
        longest = self.timeout.max_pause
        return inf if longest is None else self.lies_since + longest - self.stack.clock.monotonic()

    def paused_too_long(self) -> LimitExceeded:
        """The error of a consumer that comes back to a stream which was closed meanwhile."""
        longest, chunks = self.timeout.max_pause, self.arrival.chunks
        text = (
            f"the stream was closed after {chunks} chunk{'s' if chunks > 1 else ''}, since it had not been read for "
            f"{longest:g} s: read it faster, or raise timeout.max_pause"
        )
        details = {"refused_by": "timeout", "max_pause": longest}
        error = LimitExceeded(text, error_code=ErrorCode.ERR_LIMIT_BULKHEAD, target=self.stack.target, details=details)
        error.arrived = self.arrival.so_far()
        return error

    def ended(self) -> None:
        """All has arrived: only now it is a success, as fast as its first content."""
        permit = self._held.pop()
        stack, call = self.stack, self.call
        lift(self._limits)
        of_attempt, of_call = self._latency
        if call.gate.eventful:
            call.gate.record_success(permit, of_attempt)
        self._slot.said(of_attempt, True)
        self._slot.done()
        whole = self.arrival.whole()
        if self._keep is not None and whole is not None:
            self._keep(call.key, whole)
        if stack.admission is not None:
            stack.admission.spend(whole)
        if self.recovery is None:
            stack.counters.record_success(of_call)
        else:
            self.recovery.recovered(of_call)

    def broken(self, error: Exception) -> None:
        """It has ended in *error*: that counts once, and only if it is not the consumer's time that ran out."""
        if was_ended(self.call.terms.clock):  # from outside, and *error* comes of that
            self.left("closed")
            return
        permit = self._held.pop()
        stack, call = self.stack, self.call
        if isinstance(error, builtins.TimeoutError) and stack.clock.monotonic() >= self._limits[1]:
            call.gate.release(permit)  # the deadline covers the pauses of the consumer as well
        else:
            call.attempt_started = stack.clock.monotonic() - self._latency[0]  # as slow as its first content
            stack.settle(call, permit, error)
        self._slot.done()
        recovery = self.recovery or Recovery(stack, call)
        recovery.broken(error, self.arrival.so_far())

    def left(self, reason: str, tell: Callable[[Callable[[], object]], object] | None = None) -> None:
        """
        The consumer, or what it lies in, has left it: that proves nothing.

        Args:
            reason: As :class:`StreamAbandoned` has it.
            tell: Tells the listeners later, where that can't be done now.
        """
        permit = self._held.pop()
        stack = self.stack
        self.call.gate.release(permit)
        self._slot.done()
        elapsed = stack.clock.monotonic() - self.call.started
        stack.counters.count(StreamAbandoned.name)
        listener = stack.listener
        if listener is None:
            return
        event = StreamAbandoned(stack.target, reason, self.arrival.chunks, elapsed)
        if tell is None:
            listener(event)
        else:
            tell(lambda: listener(event))
