"""The fallback chain: what serves when the call has failed for good."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from pixel_llm.errors import root_classification
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
            error: Why the call failed. If its root cause is PERMANENT nothing serves:
                a wrong key must be seen, not papered over.
            key: What names this call in the cache.

        Returns:
            What was served, or None if *error* must be raised, and the steps that did not serve.
        """
        skipped: list[SkippedStep] = []
        if not root_classification(error).has_fallback():
            return None, skipped
        for step in self.steps:
            match step.strategy:
                case FallbackStrategy.RAISE:
                    return None, skipped
                case FallbackStrategy.CACHE:
                    found = self.cache.get(key) if self.cache is not None else None
                    if found is not None:
                        return Served(found.value, step.strategy.value, found.age_seconds()), skipped
                    skipped.append(SkippedStep(step.strategy.value, "holds no fresh result of this request"))
                case FallbackStrategy.DEFAULT_VALUE | FallbackStrategy.NONE:
                    # A copy: whoever changes what was served must not change the policy.
                    return Served(deepcopy(step.value), step.strategy.value), skipped
        return None, skipped
