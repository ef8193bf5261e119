"""Spans and metrics for OpenTelemetry; needs the extra ``opentelemetry``. The SDK is yours."""

from pixel_llm.opentelemetry.instrumenting import instrument, uninstrument

__all__ = ["instrument", "uninstrument"]
