"""What it costs to be watched: a call, a scrape, and memory."""

from __future__ import annotations

import contextlib
import gc
import tempfile
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from benchmarks.measure import in_turn, per_call
from benchmarks.stacks import OURS
from pixel_llm.monitoring.error_metrics import ErrorMetrics
from pixel_llm.monitoring.exposition.text import write_text
from pixel_llm.opentelemetry import instrument
from pixel_llm.runtime import Policies, load_policies

TARGETS = 1_000

_LAYERS = (
    "{deadline: 60s, retry: {}, idempotent: true, circuit_breaker: {}, bulkhead: {max_concurrent: 8}, "
    "fallback: [{default_value: sorry}]}"
)
#: The layers of the stack that the other benchmarks measure.
_BENCH = "{deadline: 60s, retry: {}, idempotent: true, circuit_breaker: {}, fallback: [{default_value: sorry}]}"


def watched_call() -> dict[str, float]:
    """Seconds a call that succeeds: with metrics off, and with them on and a log at INFO."""
    targets = f"targets: {{shop.pay: {_BENCH}}}"
    with _policies(targets, "INFO") as on, _policies(targets, "CRITICAL") as off:
        metrics = ErrorMetrics()
        metrics.watch(on)
        return per_call(
            {
                f"{OURS}; metrics off, log at CRITICAL": off.wrap("shop.pay", _nothing),
                "metrics on, log at INFO": on.wrap("shop.pay", _nothing),
            },
            5_000,
        )


def traced_call() -> dict[str, float]:
    """Seconds a call that succeeds: not instrumented, and with spans and metrics by the SDK that nobody takes."""
    targets = f"targets: {{shop.pay: {_BENCH}}}"
    spans = TracerProvider(shutdown_on_exit=False)
    spans.add_span_processor(SimpleSpanProcessor(_Nowhere()))
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    tracer = spans.get_tracer("bench")

    def bare() -> None:
        with tracer.start_as_current_span("pay"), tracer.start_as_current_span("attempt"):
            pass

    with _policies(targets, "CRITICAL") as off, _policies(targets, "CRITICAL") as on:
        instrument(on, tracer_provider=spans, meter_provider=meters)
        return per_call(
            {
                f"{OURS}; not instrumented": off.wrap("shop.pay", _nothing),
                "two bare spans of the SDK, without a call": bare,
                "instrumented: two spans with attributes, one duration": on.wrap("shop.pay", _nothing),
            },
            2_000,
        )


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def scrape() -> dict[str, float]:
    """Seconds to write the metrics of 1,000 targets that were called, some of which have failed."""
    targets = "".join(f"  shop.t{number}: {_LAYERS}\n" for number in range(TARGETS))
    with _policies(f"targets:\n{targets}", "CRITICAL") as policies:
        for number in range(TARGETS):
            policies.wrap(f"shop.t{number}", _nothing if number % 10 else _fails)()
        return in_turn({f"{TARGETS:,} targets": lambda: write_text([policies.snapshot()])}, rounds=15)


def memory() -> dict[str, float]:
    """Bytes in use after many calls that are watched, with a look at the metrics now and then."""
    sizes = {}
    with _policies(f"targets: {{shop.pay: {_BENCH}}}", "INFO") as policies:
        metrics = ErrorMetrics()
        metrics.watch(policies)
        pay = policies.wrap("shop.pay", _nothing)
        tracemalloc.start()
        for number in range(1, 1_000_001):
            pay()
            if number % 5_000 == 0:
                write_text([policies.snapshot()])
                metrics.get_full_summary()
            if number in (10_000, 1_000_000):
                gc.collect()
                sizes[f"{number:,} calls"] = float(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    return sizes


@contextlib.contextmanager
def _policies(targets: str, level: str) -> Iterator[Policies]:
    with tempfile.TemporaryDirectory() as folder:
        log = f"logging: {{level: {level}, file: {folder}/log.jsonl}}"
        (Path(folder) / "bench.yaml").write_text(f"version: 1\n{log}\n{targets}")
        with load_policies(folder, "bench", variables={}) as policies:
            yield policies


def _nothing() -> None:
    return None


def _fails() -> None:
    raise ConnectionError("gone")
