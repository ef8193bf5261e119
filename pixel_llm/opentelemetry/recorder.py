"""The histograms, which are recorded as calls end."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.metrics import Meter
from opentelemetry.util.types import AttributeValue

from pixel_llm.monitoring.exposition.families import BUCKETS
from pixel_llm.opentelemetry.endings import Ending
from pixel_llm.opentelemetry.names import ERROR_TYPE

#: Upper bounds that the conventions advise, in seconds.
OPERATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)

#: The same in tokens: the powers of four.
TOKEN_BUCKETS = tuple(4**power for power in range(14))


class Recorder:
    """The histograms of one meter. Safe for concurrent use."""

    def __init__(self, meter: Meter) -> None:
        self._calls = meter.create_histogram(
            "pixel_llm.call.duration",
            unit="s",
            description="How long calls took, waits included.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self._operations = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=OPERATION_BUCKETS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=TOKEN_BUCKETS,
        )

    def call(self, profile: str, target: str, ending: Ending, stands_in_for: str | None, seconds: float) -> None:
        """
        A call has ended.

        Args:
            profile: The name of its policy.
            target: Its target.
            ending: How it has ended.
            stands_in_for: The error for which a fallback has served.
            seconds: How long it took.
        """
        attributes = {"profile": profile, "target": target, "outcome": _outcome(ending, stands_in_for)}
        failed_of = ending.error_type or stands_in_for
        if failed_of is not None:
            attributes[ERROR_TYPE] = failed_of
        self._calls.record(seconds, attributes)

    def operation(self, seconds: float, attributes: Mapping[str, AttributeValue]) -> None:
        """A chat has ended that took so many *seconds*."""
        self._operations.record(seconds, attributes)

    def tokens(self, count: int, attributes: Mapping[str, AttributeValue]) -> None:
        """So many tokens were read, or written, by a model."""
        self._tokens.record(count, attributes)


def _outcome(ending: Ending, stands_in_for: str | None) -> str:
    if ending.error_type is not None:
        return "failed"
    if ending.left is not None:
        return "left"
    return "succeeded" if stands_in_for is None else "degraded"
