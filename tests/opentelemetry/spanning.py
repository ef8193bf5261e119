"""Policies whose spans are kept, and how they hang together as a text."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pixel_llm import Policies, load_policies

WORLDS = ("sync", "async")


class Spans:
    """Where spans end."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def all(self) -> list[ReadableSpan]:
        """All that have ended, by when they began."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    def wait_for(self, count: int) -> None:
        """Until so many have ended; some end in threads."""
        wait_until(lambda: len(self.all()) >= count)

    def tree(self, *attributes: str) -> list[str]:
        """Each span, indented below its parent, with the *attributes* that it has."""
        spans = self.all()
        lines: list[str] = []

        def write(parent: int | None, depth: int) -> None:
            for span in spans:
                if (span.parent.span_id if span.parent else None) == parent:
                    lines.append("  " * depth + " ".join([span.name, *_told(span, attributes)]))
                    write(span.context.span_id, depth + 1)

        write(None, 0)
        return lines


def _told(span: ReadableSpan, attributes: tuple[str, ...]) -> list[str]:
    found = span.attributes or {}
    told = [f"{name.rpartition('.')[2]}={found[name]}" for name in attributes if name in found]
    return told if span.status.is_unset else [*told, span.status.status_code.name]


def wait_until(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends, "it never was so"
        time.sleep(0.01)


def policies_of(folder: Any, targets: str, **options: Any) -> Policies:
    """The policies that have these *targets*, a YAML mapping."""
    (folder / "test.yaml").write_text(f"version: 1\nlogging: {{level: CRITICAL}}\ntargets: {targets}\n")
    return load_policies(folder, "test", variables={}, **options)


def in_world(world: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """*function*, a plain one, as one of this world."""
    if world == "sync":
        return function

    async def twin(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return twin


def call(world: str, guarded: Callable[..., Any], *args: Any) -> Any:
    """Call what is guarded, in its world."""
    return guarded(*args) if world == "sync" else asyncio.run(guarded(*args))


class Failing:
    """Raises what it is given, one after the other, then gives "done"."""

    def __init__(self, *errors: BaseException) -> None:
        self._errors = list(errors)
        self._lock = threading.Lock()

    def __call__(self, *args: Any) -> str:
        with self._lock:
            error = self._errors.pop(0) if self._errors else None
        if error is not None:
            raise error
        return "done"
