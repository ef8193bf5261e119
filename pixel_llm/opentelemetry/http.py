"""HTTP requests as spans, by the conventions for HTTP clients."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from opentelemetry import propagate, trace

from pixel_llm.opentelemetry.endings import Ending, TimeLeft
from pixel_llm.opentelemetry.names import (
    HTTP_METHOD,
    HTTP_RESEND_COUNT,
    HTTP_STATUS,
    SERVER_ADDRESS,
    SERVER_PORT,
    URL_FULL,
)

_PORTS = {"http": 80, "https": 443}


def server_of(url: str) -> tuple[str, int]:
    """Host and port of *url*, an address of http or https."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS[parts.scheme]


class HttpSpan:
    """
    A request of the LM Studio client.

    Args:
        tracer: Makes the span, a child of the current one.
        method: ``GET`` or ``POST``.
        url: Where it goes. It has no credentials in it.
        resends: How many attempts of the call were before this one.
        time: That of its attempt.

    Attributes:
        headers: What tells the server of the span, in the form that the program has chosen; ``traceparent`` by default.
    """

    __slots__ = ("_span", "_status", "_time", "headers")

    def __init__(self, tracer: trace.Tracer, method: str, url: str, *, resends: int, time: TimeLeft) -> None:
        host, port = server_of(url)
        attributes: dict[str, str | int] = {
            HTTP_METHOD: method,
            URL_FULL: url,
            SERVER_ADDRESS: host,
            SERVER_PORT: port,
        }
        if resends:
            attributes[HTTP_RESEND_COUNT] = resends
        self._span = tracer.start_span(method, kind=trace.SpanKind.CLIENT, attributes=attributes)
        self._status = 0
        self._time = time
        try:
            self.headers = _headers(self._span)
        except BaseException:  # of the program's propagator
            self._span.end()
            raise

    def answered(self, status: int) -> None:
        """The headers of the answer have come."""
        self._status = status
        self._span.set_attribute(HTTP_STATUS, status)

    def end(self, error: BaseException | None) -> None:
        """Its answer has been read, or it has failed."""
        try:
            ending = Ending(str(self._status)) if self._status >= 400 else self._time.ending_of(error)
            ending.write(self._span)
        finally:
            self._span.end()


def _headers(span: trace.Span) -> Mapping[str, str]:
    carrier: dict[str, str] = {}
    propagate.inject(carrier, trace.set_span_in_context(span))
    # A propagator of the program's may write anything; what fits into no header must not fail the call.
    return {name: value for name, value in carrier.items() if _fits(name) and _fits(value)}


def _fits(text: str) -> bool:
    return text.isascii() and text.isprintable()
