"""Puts spans and metrics around policies, and takes them away."""

from __future__ import annotations

import threading
import weakref
from importlib.metadata import version

try:
    from opentelemetry import metrics, trace
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "pixel_llm.opentelemetry needs opentelemetry-api: pip install 'pixel-llm[opentelemetry]'", name=error.name
    ) from None

from pixel_llm.errors import ValidationError
from pixel_llm.monitoring.logs.context import add_source, remove_source
from pixel_llm.opentelemetry.events import add_event
from pixel_llm.opentelemetry.ids import ids_of_current_span
from pixel_llm.opentelemetry.instruments import observe
from pixel_llm.opentelemetry.names import SCHEMA_URL, SCOPE
from pixel_llm.opentelemetry.recorder import Recorder
from pixel_llm.opentelemetry.tracer import SpanTracer
from pixel_llm.opentelemetry.watched import Watched
from pixel_llm.runtime import Policies

_VERSION = version("pixel-llm")

#: Held while something is instrumented or not any more; calls and collections never need it.
_lock = threading.Lock()


class _Metrics:
    """What one provider of meters has of us: it makes no instrument twice."""

    def __init__(self, provider: metrics.MeterProvider) -> None:
        meter = provider.get_meter(SCOPE, _VERSION, SCHEMA_URL)
        self.recorder = Recorder(meter)
        self.watched = Watched()
        observe(meter, self.watched)


_metrics: weakref.WeakKeyDictionary[metrics.MeterProvider, _Metrics] = weakref.WeakKeyDictionary()

#: Those of the program's provider, which may have been a stand-in when they were made: it hands on what it was given.
_global_metrics: _Metrics | None = None

#: Those that are instrumented, and by what their metrics are read.
_instrumented: weakref.WeakKeyDictionary[Policies, Watched] = weakref.WeakKeyDictionary()


def instrument(
    policies: Policies,
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
) -> None:
    """
    From now on make spans of the calls of *policies*, and metrics of what their stacks know.

    Log records that are written inside of a span, of whomever, have its ``trace_id`` and ``span_id`` in their context.
    Nothing of what is asked or answered is in spans. May be called again, from any thread: the later call replaces the
    earlier one. ``policies.reload()`` changes nothing about it. Calls that are under way are not seen.

    Args:
        policies: What ``load_policies()`` gives, or ``model.policies``.
        tracer_provider: Takes the spans; by default the program's, which may be set later.
        meter_provider: Takes the metrics; by default the same.

    Raises:
        ValidationError: If *policies* are none.
    """
    _check("instrument", policies)
    tracers = trace.get_tracer_provider() if tracer_provider is None else tracer_provider
    with _lock:
        made = _metrics_of(meter_provider)
        _end(policies)
        policies.add_listener(add_event)
        policies.trace(SpanTracer(policies, tracers.get_tracer(SCOPE, _VERSION, SCHEMA_URL), made.recorder))
        made.watched.add(policies)
        _instrumented[policies] = made.watched
        add_source(ids_of_current_span)


def uninstrument(policies: Policies) -> None:
    """
    From now on make neither spans nor metrics of *policies*; calls under way are seen to their end.

    Nothing happens if they are not instrumented. May be called from any thread.

    Raises:
        ValidationError: If *policies* are none.
    """
    _check("uninstrument", policies)
    with _lock:
        if _end(policies):
            policies.trace(None)
        if not _instrumented:
            remove_source(ids_of_current_span)


def _metrics_of(provider: metrics.MeterProvider | None) -> _Metrics:
    """What *provider* has of us by now; None is that of the program."""
    global _global_metrics
    of_program = metrics.get_meter_provider()
    if provider is None or provider is of_program:
        _global_metrics = _global_metrics or _Metrics(of_program)
        return _global_metrics
    if provider not in _metrics:
        _metrics[provider] = _Metrics(provider)
    return _metrics[provider]


def _end(policies: Policies) -> bool:
    """Read no metrics of *policies* any more; False if none were read."""
    watched = _instrumented.pop(policies, None)
    if watched is not None:
        watched.remove(policies)
    return watched is not None


def _check(name: str, policies: Policies) -> None:
    if not isinstance(policies, Policies):
        raise ValidationError(f"{name} takes what load_policies() gives (got {policies!r})")
