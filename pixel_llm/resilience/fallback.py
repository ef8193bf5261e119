"""The fallback chain: what serves when the call has failed for good."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from pixel_llm.errors import classify_error, http_status, root_cause
from pixel_llm.policy import FallbackStep, FallbackStrategy
from pixel_llm.resilience.cache import ResultCache
from pixel_llm.resilience.clock import Clock
from pixel_llm.resilience.outcome import SkippedStep


@dataclass(frozen=True, slots=True)
class Served:
    """What a step gave. *age* is that of a cached result, in seconds."""

    value: Any
    by: str
    age: float | None = None


class FallbackChain:
    """
    A compiled `fallback` section, with the cache that belongs to it. Safe for concurrent use.

    No step does I/O, so each of them still serves when the deadline has passed.
    """

    def __init__(self, steps: Sequence[FallbackStep], *, clock: Clock) -> None:
        self.steps = tuple(steps)
        caches = [ResultCache(step.cache, clock=clock) for step in steps if step.cache is not None]
        self.cache = caches[0] if caches else None

    def serve(self, error: Exception, key: Any) -> tuple[Served | None, list[SkippedStep]]:
        """
        Go through the steps until one serves.

        Args:
            error: Why the call failed. Its root cause decides which steps serve: by default none does
                if that is PERMANENT, since a wrong key must be seen, not papered over.
            key: What names this call in the cache.

        Returns:
            What was served, or None if *error* must be raised, and the steps that did not serve.
        """
        skipped: list[SkippedStep] = []
        cause = root_cause(error)
        classification, status = classify_error(cause), http_status(cause)
        for step in self.steps:
            if step.strategy is FallbackStrategy.RAISE:  # whatever went wrong
                break
            if not step.when.matches(classification, status):
                name = classification.error_code or classification.category
                skipped.append(SkippedStep(step.strategy.value, f"does not serve for {name}"))
                continue
            match step.strategy:
                case FallbackStrategy.CACHE:
                    found = self.cache.get(key) if self.cache is not None else None
                    if found is not None:
                        return Served(found.value, step.strategy.value, found.age_seconds()), skipped
                    skipped.append(SkippedStep(step.strategy.value, "holds no fresh result of this request"))
                case FallbackStrategy.DEFAULT_VALUE | FallbackStrategy.NONE:
                    # A copy: whoever changes what was served must not change the policy.
                    return Served(deepcopy(step.value), step.strategy.value), skipped
        return None, skipped
