"""What the stacks tell, as events of spans: a retry, a fallback, a breaker that opens."""

from __future__ import annotations

from dataclasses import fields

from opentelemetry.util.types import AttributeValue

from pixel_llm.errors import ErrorCode
from pixel_llm.events import Event
from pixel_llm.opentelemetry.names import ERROR_TYPE, TARGET
from pixel_llm.opentelemetry.spans import current_span

#: The target has a name of its own. The others are texts of errors, which may quote what was asked.
_LEFT_OUT = frozenset({"target", "error", "problems"})


def add_event(event: Event) -> None:
    """A listener: write *event* on the span of the call, or of the attempt, that the running code is part of."""
    live = current_span()
    if live is not None and live.span.is_recording():
        live.span.add_event(event.name, _attributes(event))


def _attributes(event: Event) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {} if event.of_policy else {TARGET: event.target}
    for name in (field.name for field in fields(event)):
        value = getattr(event, name)
        if name in _LEFT_OUT:
            continue
        if isinstance(value, ErrorCode):
            attributes[ERROR_TYPE] = value.value
        elif name == "reason":  # what a fallback step failed of: its code, without the text that follows
            attributes["pixel_llm.reason"] = value.partition(": ")[0]
        elif value is not None:
            attributes[f"pixel_llm.{name}"] = value
    return attributes
