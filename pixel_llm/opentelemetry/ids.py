"""Which span a log record was written in."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import trace


def ids_of_current_span() -> Mapping[str, str]:
    """``trace_id`` and ``span_id`` of the current span, as hex; none where there is no span."""
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(span.trace_id), "span_id": trace.format_span_id(span.span_id)}
