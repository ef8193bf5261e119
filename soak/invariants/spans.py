"""Whoever looks sees what happened, once, and nothing of it is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from soak.faults import Interrupt
from soak.playing import Play
from soak.records import Call
from soak.spans import Span
from soak.targets import TARGET


def _each_ends_once(play: Play) -> Iterator[str]:
    """Spans end once, the attempts of abandoned threads too, and are left as often as they are entered."""
    for span in _all(play):
        what = f"the span of {'an attempt of' if span.around else 'a call of'} {span.target} for {span.call.name}"
        if len(span.ends) != 1:
            yield f"{what} ended {len(span.ends)} times"
        elif span.inside and span.ends[0] is not GeneratorExit:
            yield f"{what} was entered {span.inside} times more than it was left"


def _calls_have_one(play: Play) -> Iterator[str]:
    """Each call of the first target has a span that ends as the call does; a stream, once it is read."""
    if play.tracer is None:
        return
    spans = [span for span in play.tracer.calls if span.target == TARGET]
    for call in play.calls:
        own = [span for span in spans if span.call is call]
        least = 0 if call.state == "never" or call.is_stream else 1
        if not least <= len(own) <= (0 if call.state == "never" else 1):
            yield f"{call.name} has {len(own)} spans, though it is {call.state}"
        elif own and not call.is_stream and own[0].ends[:1] != [_expected(call)]:
            yield f"the span of {call.name} ended in {own[0].ends}, though it is {call.state}"


def _attempts_have_one(play: Play) -> Iterator[str]:
    """Each attempt of the first target has a span; one into which chaos put an error has nothing else."""
    if play.tracer is None:
        return
    for span in play.tracer.calls:
        if span.target == TARGET:
            seen, made = sum(one.target == TARGET for one in span.attempts), len(span.call.attempts)
            if seen < made:
                yield f"{span.call.name} made {made} attempts, {seen} were seen"


def _expected(call: Call) -> type[BaseException] | None:
    if call.state == "cancelled":
        return asyncio.CancelledError
    if call.state == "interrupted":
        return Interrupt
    return None if call.error is None else type(call.error)


def _all(play: Play) -> Iterator[Span]:
    for span in () if play.tracer is None else play.tracer.calls:
        yield span
        yield from span.attempts


CHECKS: tuple[Callable[[Play], Iterator[str]], ...] = (_each_ends_once, _calls_have_one, _attempts_have_one)
