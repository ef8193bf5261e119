"""
Calls and their attempts as spans::

    the caller's span
     └── call                 billing.charge
          ├── attempt         billing.charge attempt
          │    └── request    POST
          └── attempt         billing.charge attempt

Each is the current one of OpenTelemetry's context while its code runs, so what that code begins lies inside of it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping
from contextvars import Token
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.util.types import AttributeValue

from pixel_llm.opentelemetry.endings import CANCELLED, SUCCEEDED, Ending, TimeLeft, ending_of_call, error_type
from pixel_llm.opentelemetry.http import HttpSpan, server_of
from pixel_llm.opentelemetry.names import (
    ATTEMPT,
    ATTEMPTS,
    DEGRADED,
    ERROR_TYPE,
    PROFILE,
    REQUEST_ID,
    SERVED_BY,
    TARGET,
)
from pixel_llm.request import current_request_id
from pixel_llm.resilience import Outcome
from pixel_llm.resilience.clock import was_ended
from pixel_llm.resilience.limits import get_published

if TYPE_CHECKING:
    from pixel_llm.opentelemetry.tracer import SpanTracer

#: Under which a context has the innermost span of ours.
_KEY = context.create_key("pixel_llm")


def current_span() -> _Live | None:
    """The innermost span of ours that the running code is part of."""
    return context.get_value(_KEY)  # type: ignore[return-value]  # nobody else knows the key


class _Live:
    """What calls and attempts have in common."""

    __slots__ = ("span",)

    def __init__(self, span: trace.Span) -> None:
        self.span = span

    def enter(self) -> Token[Context]:
        """Make it the current span."""
        return context.attach(context.set_value(_KEY, self, trace.set_span_in_context(self.span)))

    def leave(self, entered: Token[Context]) -> None:
        """Make the one before the current one again."""
        context.detach(entered)

    def chunk(self, chunk: Any) -> None:
        """Its stream has delivered a chunk."""


class CallSpan(_Live):
    """A call of a target."""

    __slots__ = ("_clock", "_own_attempts", "_tracer", "_visits", "began", "numbers", "target", "thread")

    def __init__(
        self,
        tracer: SpanTracer,
        target: str,
        *,
        name: str | None = None,
        kind: trace.SpanKind = trace.SpanKind.INTERNAL,
        attributes: Mapping[str, AttributeValue] = {},
    ) -> None:
        self._tracer = tracer
        self.target = target
        self.began = time.perf_counter()
        self.thread = threading.get_ident()
        #: That of the caller, who may end the call with it.
        self._clock = get_published()[2].clock
        #: The attempts of the call, and of those the ones that ask one of several places, counted from 1 each; one
        #: step of it is a single operation of the interpreter.
        self.numbers, self._visits = itertools.count(1), itertools.count(1)
        self._own_attempts: list[None] = []
        whole = {TARGET: target, PROFILE: tracer.profile(), **attributes}
        if (request_id := current_request_id()) is not None:
            whole[REQUEST_ID] = request_id
        super().__init__(tracer.tracer.start_span(name or target, kind=kind, attributes=whole))

    def attempt(self, target: str) -> AttemptSpan:
        """An attempt of it begins."""
        if target == self.target:
            self._own_attempts.append(None)
        return AttemptSpan(self._tracer, self, target, next(self.numbers))

    def visit(self, target: str) -> AttemptSpan:
        """An attempt of it asks one of several places."""
        return AttemptSpan(self._tracer, self, target, next(self._visits))

    def request(self, method: str, url: str) -> HttpSpan:
        """A request is sent for it, outside of its attempts."""
        return HttpSpan(self._tracer.tracer, method, url, resends=0, time=TimeLeft(self.thread))

    def asks(self, server: tuple[str, int]) -> None:
        """A request goes to *server*, host and port."""

    def end(self, result: Outcome[Any] | None, error: BaseException | None) -> None:
        """It has ended."""
        try:
            ending = ending_of_call(self.target, error)
            has_failed = ending.error_type is not None or failure(result) is not None
            if has_failed and was_ended(self._clock):  # whatever it failed of, or a fallback served for, comes of that
                ending, result = CANCELLED, None
            if self.span.is_recording():
                self._write(result, ending, error)
            self._count(result, ending, time.perf_counter() - self.began)
        finally:
            self.span.end()

    def _write(self, result: Outcome[Any] | None, ending: Ending, error: BaseException | None) -> None:
        """Write on the span how it has ended."""
        attributes: dict[str, AttributeValue] = {}
        if result is None:
            attributes[ATTEMPTS] = getattr(error, "attempts", None) or len(self._own_attempts)
        else:
            attributes[ATTEMPTS] = result.attempts
            if ending.error_type is None:
                attributes |= {SERVED_BY: result.served_by, DEGRADED: result.degraded}
            if (failed_of := failure(result)) is not None:
                attributes[ERROR_TYPE] = failed_of
        self.span.set_attributes(attributes)
        ending.write(self.span)

    def _count(self, result: Outcome[Any] | None, ending: Ending, seconds: float) -> None:
        """Count it."""
        self._tracer.recorder.call(self._tracer.profile(), self.target, ending, failure(result), seconds)


def failure(result: Outcome[Any] | None) -> str | None:
    """The ``error.type`` of what a fallback stands in for."""
    return None if result is None or result.error is None else error_type(result.error)


class AttemptSpan(_Live):
    """An attempt of a call; where that goes to several places, also a visit of one of them."""

    __slots__ = ("_call", "_number", "_time", "_tracer")

    def __init__(self, tracer: SpanTracer, call: CallSpan, target: str, number: int) -> None:
        self._tracer, self._call, self._number = tracer, call, number
        self._time = TimeLeft(call.thread)
        name, _, place = target.partition("[")
        attributes: dict[str, AttributeValue] = {TARGET: target, ATTEMPT: number}
        if place:  # such as "endpoint=http://127.0.0.1:1234/v1]"
            kind, _, which = place.removesuffix("]").partition("=")
            attributes[f"pixel_llm.{kind}"] = which
        super().__init__(tracer.tracer.start_span(f"{name} attempt", attributes=attributes))

    def attempt(self, target: str) -> AttemptSpan:
        """It asks one of several places."""
        return self._call.visit(target)

    def request(self, method: str, url: str) -> HttpSpan:
        """A request is sent for it."""
        self._call.asks(server_of(url))
        return HttpSpan(self._tracer.tracer, method, url, resends=self._number - 1, time=self._time)

    def end(self, result: Any, error: BaseException | None) -> None:
        """It has ended."""
        try:
            ending = self._time.ending_of(error)
            if ending is not SUCCEEDED:
                ending.write(self.span)
        finally:
            self.span.end()
