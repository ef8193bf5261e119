"""The fallback chain: what serves when the call has failed for good."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pixel_llm.errors import ErrorClassification, PixelLMError, classify_error, http_status, root_cause
from pixel_llm.policy import FallbackStep, FallbackStrategy
from pixel_llm.policy.sections.fallback import reserved
from pixel_llm.resilience.caching.cache import LazyCache, ResultCache
from pixel_llm.resilience.clock import Clock
from pixel_llm.resilience.outcome import SkippedStep

if TYPE_CHECKING:
    from pixel_llm.resilience.stack import Stack

#: Why a cache did not serve.
HOLDS_NOTHING = "holds no fresh result of this request"


@dataclass(frozen=True, slots=True)
class Served:
    """What a step gave. *age* is that of a cached result, in seconds."""

    value: Any
    by: str
    age: float | None = None


class FallbackChain:
    """
    A compiled `fallback` section, with the cache that belongs to it. Safe for concurrent use.

    Steps that do no I/O are served here, also when the deadline has passed; those that take time are run by the
    guards, within the deadline.

    Attributes:
        steps: The steps, in order.
        caches: Whether one of them is a cache.
        takes_time: Whether one of them takes time.
        reserve: Seconds of the deadline that are kept for those.
        stacks: The stacks of those that make the call elsewhere, by the step's number, once they were needed.
    """

    __slots__ = ("_cache", "caches", "reserve", "stacks", "steps", "takes_time")

    def __init__(self, steps: Sequence[FallbackStep], *, clock: Clock) -> None:
        self.steps = tuple(steps)
        config = next((step.cache for step in steps if step.cache is not None), None)
        self._cache = None if config is None else LazyCache(config, clock)
        self.caches = config is not None
        self.takes_time = any(step.takes_time for step in steps)
        self.reserve = reserved(steps)
        self.stacks: dict[int, Stack] = {}

    @property
    def cache(self) -> ResultCache | None:
        """The cache, made when it is first asked for; None if no step is one."""
        return None if self._cache is None else self._cache.get()

    @property
    def places(self) -> list[tuple[str, int]]:
        """What each step calls, and how many before it call the same."""
        names = [step.name for step in self.steps]
        return [(name, names[:index].count(name)) for index, name in enumerate(names)]

    def go_on_from(self, before: FallbackChain) -> None:
        """Take over the results that *before* keeps."""
        self._cache = before._cache

    def begin(self, error: Exception, key: Any) -> FallbackRun:
        """
        Begin to serve in place of a call.

        Args:
            error: Why the call failed. Its root cause decides which steps serve: by default none does
                if that is PERMANENT, since a wrong key must be seen, not papered over.
            key: What names this call in the cache.
        """
        return FallbackRun(self, error, key)

    def reserved_after(self, index: int) -> float:
        """Seconds of the deadline that the steps after this one keep for themselves."""
        return reserved(self.steps[index + 1 :])


class FallbackRun:
    """
    One call's way through the chain. Belongs to one thread or task.

    Attributes:
        error: Why the call failed.
        served: What a step gave, once one has served.
        skipped: The steps that did not serve, and why.
    """

    def __init__(self, chain: FallbackChain, error: Exception, key: Any) -> None:
        self.error = error
        self.served: Served | None = None
        self.skipped: list[SkippedStep] = []
        self._chain = chain
        self._key = key
        self._next = 0
        cause = root_cause(error)
        self._classification: ErrorClassification = classify_error(cause)
        self._status = http_status(cause)

    def next_step(self) -> tuple[int, FallbackStep] | None:
        """
        Go on until a step has served, or one takes time.

        Returns:
            The step that takes time, and its number from 0: hand what it gave to :meth:`serve`, or why it did
            not to :meth:`skip`, and go on. None at the end: *served* is there, or the error must be raised.
        """
        while self.served is None and self._next < len(self._chain.steps):
            index, step = self._next, self._chain.steps[self._next]
            self._next += 1
            if step.strategy is FallbackStrategy.RAISE:  # whatever went wrong
                self._next = len(self._chain.steps)
            elif not step.when.matches(self._classification, self._status):
                name = self._classification.error_code or self._classification.category
                self.skip(step, f"does not serve for {name}")
            elif step.takes_time:
                return index, step
            else:
                self._serve_at_once(step)
        return None

    def serve(self, step: FallbackStep, value: Any, age: float | None = None) -> None:
        """*step* has served."""
        self.served = Served(value, step.name, age)

    def skip(self, step: FallbackStep, reason: str) -> None:
        """*step* did not serve."""
        self.skipped.append(SkippedStep(step.name, reason))

    def fail(self, step: FallbackStep, error: Exception) -> None:
        """*step* was tried and has failed itself."""
        try:
            text = error.message if isinstance(error, PixelLMError) else str(error)
        except Exception:  # noqa: BLE001 - somebody else's __str__ may fail
            text = "<its text failed>"
        name = classify_error(error).error_code or type(error).__name__
        reason = f"failed of {name}: {text}" if text else f"failed of {name}"
        self.skip(step, reason if len(reason) <= 500 else f"{reason[:499]}…")

    def _serve_at_once(self, step: FallbackStep) -> None:
        if step.strategy is not FallbackStrategy.CACHE:
            # A copy: whoever changes what was served must not change the policy.
            self.serve(step, deepcopy(step.value))
            return
        cache = self._chain.cache
        found = cache.get(self._key) if cache is not None else None
        if found is None:
            self.skip(step, HOLDS_NOTHING)
        else:
            self.serve(step, found.value, found.age_seconds())
