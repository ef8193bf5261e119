"""What must hold for each stream."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Iterator

from pixel_llm.errors import classify_error, http_status
from pixel_llm.policy import BreakerMode
from soak.invariants.calls import caches_of, given_by
from soak.invariants.case import Case, or_inf
from soak.records import Attempt, Chunk


def own_attempt(case: Case) -> Attempt | None:
    """The attempt that delivered the chunks, if it is one of the target itself, made by this call."""
    call = case.call
    if not call.chunks or not isinstance(call.chunks[0], Chunk):
        return None
    attempt = case.play.attempts[call.chunks[0].attempt]
    return attempt if attempt in call.attempts else None


def _delivers_in_order(case: Case) -> Iterator[str]:
    """All chunks come from one attempt, each once and in order; and nothing is tried again after content."""
    call = case.call
    if not call.is_stream:
        return
    chunks = [chunk for chunk in call.chunks if isinstance(chunk, Chunk)]
    if len(chunks) < len(call.chunks) and (len(call.chunks) > 1 or not _is_given(case, call.chunks[0])):
        yield f"delivered {call.chunks!r}, which nobody gives"
    if len({chunk.attempt for chunk in chunks}) > 1:
        yield f"delivered chunks of several attempts: {chunks!r}"
    if [chunk.index for chunk in chunks] != list(range(len(chunks))):
        yield f"delivered {chunks!r}, not in order"
    if any(chunk.key != call.plan.key for chunk in chunks):
        yield f"delivered {chunks!r}, its key being {call.plan.key}"
    own = own_attempt(case)
    if own is not None and own is not call.attempts[-1]:
        yield f"was tried again after content: attempt {call.attempts.index(own)} of {len(call.attempts)} had delivered"


def _is_given(case: Case, chunk: object) -> bool:
    """Whether *chunk*, the only one, is a value that something else than a stream gives."""
    return any(chunk == given for given in given_by(case)) or type(chunk).__name__ == "Value"


def _is_whole(case: Case) -> Iterator[str]:
    """A stream that ends well has delivered all, whoever made it."""
    call = case.call
    if call.state != "value" or not call.chunks or not isinstance(call.chunks[0], Chunk):
        return
    attempt = case.play.attempts[call.chunks[0].attempt]
    if not attempt.complete or attempt.delivered != len(call.chunks):
        whole = "" if attempt.complete else ", and was broken"
        yield f"ended with {len(call.chunks)} chunks, of an attempt that gave {attempt.delivered}{whole}"
    if attempt.call is not call:  # kept when that one had been read to its end
        age = call.reads[0].ended - attempt.call.reads[-1].ended
        limit = max((cache.ttl for cache in caches_of(case)), default=0.0)
        if age >= limit + case.play.blocked:
            yield f"got a stream that was {age:g} s old, the limit being {limit:g} s"


def _reads_in_time(case: Case) -> Iterator[str]:
    """The first chunk comes within the bounds of a call, each other one within *idle*, and none after the deadline."""
    call, timeout = case.call, case.policy.timeout
    if not call.is_stream or not case.is_interruptible:
        return
    idle = or_inf(timeout.idle if timeout is not None else None)
    longest = or_inf(case.bounds.worst_latency)
    for number, read in enumerate(call.reads):
        limit = longest if number == 0 else idle
        limit = min(limit, max(0.0, case.must_end - read.began))
        if read.ended - read.began > limit + case.slack:
            yield f"read {number} took {read.ended - read.began:g} s, though {limit:g} s is the longest"


def _is_not_let_lie(case: Case) -> Iterator[str]:
    """A stream that nobody reads for longer than *max_pause* is closed then."""
    call, own = case.call, own_attempt(case)
    longest = or_inf(case.policy.timeout.max_pause if case.policy.timeout is not None else None)
    if own is None or own.ends is None:
        return
    for number, read in enumerate(call.reads):
        lay_since = call.reads[number - 1].ended if number else math.inf
        if read.paused > longest + case.slack and own.ends > lay_since + longest + case.slack:
            yield f"lay for {read.paused:g} s from {lay_since:g} on, and its code ran until {own.ends:g}"


def _broken(case: Case) -> Iterator[str]:
    """What breaks a stream is counted once, if it is to be counted."""
    call, section = case.call, case.policy.circuit_breaker
    if not call.is_stream or call.error is None:
        return
    counted, own = case.play.trials.counted(call.error), own_attempt(case)
    if counted > 1 and not call.plan.nested:
        yield f"was broken once, and is counted {counted} times"
    if own is None or own.raised is None or own.raised is not call.error:
        return
    if section is None or section.mode is not BreakerMode.ENABLED:
        return
    arrived = getattr(call.error, "arrived", None)
    if arrived is None or arrived.chunks != len(call.chunks):
        yield f"broke after {len(call.chunks)} chunks, and its error says {arrived!r}"
    if isinstance(call.error, builtins.TimeoutError):
        return
    if counted != section.count.matches(classify_error(own.raised), http_status(own.raised)):
        yield f"was broken by {call.error!r}, and is counted {counted} times"


CHECKS: tuple[Callable[[Case], Iterator[str]], ...] = (
    _delivers_in_order,
    _is_whole,
    _reads_in_time,
    _is_not_let_lie,
    _broken,
)
