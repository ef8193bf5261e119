"""Puts spans and metrics around policies, and takes them away."""

from __future__ import annotations

import threading
from importlib.metadata import version

try:
    from opentelemetry import metrics, trace
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "pixel_llm.opentelemetry needs opentelemetry-api: pip install 'pixel-llm[opentelemetry]'", name=error.name
    ) from None

from pixel_llm.errors import ValidationError
from pixel_llm.opentelemetry.events import add_event
from pixel_llm.opentelemetry.names import SCHEMA_URL, SCOPE
from pixel_llm.opentelemetry.recorder import Recorder
from pixel_llm.opentelemetry.tracer import SpanTracer
from pixel_llm.runtime import Policies

_VERSION = version("pixel-llm")

_lock = threading.Lock()


def instrument(
    policies: Policies,
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
) -> None:
    """
    From now on make spans of the calls of *policies*, and metrics of what their stacks know.

    May be called again, from any thread: the later call replaces the earlier one. ``policies.reload()`` changes nothing
    about it. Calls under way are not seen any more, or not yet. Nothing of what is asked or answered is in spans.

    Args:
        policies: What ``load_policies()`` gives, or ``model.policies``.
        tracer_provider: Takes the spans; by default the program's, which may be set later.
        meter_provider: Takes the metrics; by default the same.

    Raises:
        ValidationError: If *policies* are none.
    """
    _check("instrument", policies)
    tracers = trace.get_tracer_provider() if tracer_provider is None else tracer_provider
    meters = metrics.get_meter_provider() if meter_provider is None else meter_provider
    with _lock:
        recorder = Recorder(meters.get_meter(SCOPE, _VERSION, SCHEMA_URL))
        tracer = tracers.get_tracer(SCOPE, _VERSION, SCHEMA_URL)
        policies.add_listener(add_event)
        policies.trace(SpanTracer(policies, tracer, recorder))


def uninstrument(policies: Policies) -> None:
    """
    From now on make neither spans nor metrics of *policies*; nothing happens if they are not instrumented.

    Raises:
        ValidationError: If *policies* are none.
    """
    _check("uninstrument", policies)
    with _lock:
        policies.trace(None)


def _check(name: str, policies: Policies) -> None:
    if not isinstance(policies, Policies):
        raise ValidationError(f"{name} takes what load_policies() gives (got {policies!r})")
