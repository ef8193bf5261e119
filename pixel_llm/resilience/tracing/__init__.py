"""
Calls and attempts as somebody sees them begin and end: what spans are made of.

Nobody looks by default, and then nothing of this is on the way of a call.
"""

from pixel_llm.resilience.tracing.tracer import RequestSpan, Span, Tracer

__all__ = ["RequestSpan", "Span", "Tracer"]
