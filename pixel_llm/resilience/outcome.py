"""What a guarded call gives beside its value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

#: ``served_by`` of a result that came from the call itself.
SERVED_BY_CALL = "call"

#: ``served_by`` of a result that the read-through cache had. The fallback's cache step is ``cache``.
SERVED_BY_CACHE_HIT = "cache_hit"

#: ``served_by`` of a result that an equal call brought, which was under way already.
SERVED_BY_SHARED_CALL = "shared_call"


@dataclass(frozen=True, slots=True)
class SkippedStep:
    """A fallback step that did not serve, and why."""

    step: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[T]):
    """
    The result of a guarded call, and how it came about. Immutable.

    Attributes:
        value: What the call, or the fallback, returned.
        served_by: ``call``; ``cache_hit`` or ``shared_call`` of a read-through cache; or the fallback step:
            ``cache``, ``default_value``, ``none``, and with what it called ``custom_function:apologise``,
            ``target:captions.small``, ``model:…``, ``endpoint:…``.
        degraded: True if a fallback served.
        attempts: How often the callable was really called; 0 if a layer refused.
        elapsed: Seconds from start to end, waits included.
        error: What the fallback stands in for, else None.
        skipped: The fallback steps before the one that served, and why they did not.
        asked: Where calls can go to several places: which were really asked, in order. If the call itself served, the
            last of them did.
    """

    value: T
    served_by: str
    degraded: bool
    attempts: int
    elapsed: float
    error: Exception | None = None
    skipped: tuple[SkippedStep, ...] = ()
    asked: tuple[str, ...] = ()
