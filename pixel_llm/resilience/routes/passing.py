"""
One attempt at a target whose calls can go to several places: a pass over them that ends with the first answer.

They are asked in the guide's order, one after the other and without a wait, for as long as there is time, and only
after an error that another place may answer better. Places whose breaker is open are left out, unless all are. What
both worlds decide stands here; :mod:`pixel_llm.resilience.routes.following` has their loops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pixel_llm.errors import ErrorCategory, ErrorCode, PixelLMError, classify_error
from pixel_llm.policy.sections.matching import NOTHING_SENT
from pixel_llm.resilience.error_words import code_of, text_of
from pixel_llm.resilience.limits import get_published
from pixel_llm.resilience.routes.routes import Guide
from pixel_llm.resilience.stack import Stack

#: Errors that trying again at the same place can't mend, but that say something of that place only.
_OF_THE_PLACE = frozenset({ErrorCode.ERR_API_MODEL_NOT_FOUND, ErrorCode.ERR_API_UNAUTHORIZED})
#: What is no word of the request itself.
_MAY_BE_BETTER_ELSEWHERE = frozenset({ErrorCategory.TRANSIENT, ErrorCategory.THROTTLED, ErrorCategory.DEGRADATION})

#: The errors of layers that have kept a call from beginning.
_NOT_BEGUN = NOTHING_SENT | {
    ErrorCode.ERR_CB_OPEN,
    ErrorCode.ERR_CB_HALF_OPEN,
    ErrorCode.ERR_LIMIT_RATE,
    ErrorCode.ERR_LIMIT_BULKHEAD,
}


def may_be_better_elsewhere(error: Exception, *, idempotent: bool) -> bool:
    """True if another place may answer a call that failed of *error* here; if it may be made twice."""
    found = classify_error(error)
    if found.error_code in _OF_THE_PLACE:
        return True
    if not idempotent and found.error_code not in _NOT_BEGUN:
        return False
    return found.category in _MAY_BE_BETTER_ELSEWHERE


class Place:
    """
    One of the places, as one guarded callable sees it. Immutable.

    Attributes:
        name: Its name.
        call: Makes the call there, through the place's own layers.
    """

    __slots__ = ("_find_breaker", "_stack", "call", "name")

    def __init__(self, name: str, stack: Stack, call: Callable[..., Any], find_breaker: Any) -> None:
        self.name = name
        self.call = call
        self._stack = stack
        self._find_breaker = find_breaker

    def gate(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The breaker that this call passes there."""
        return self._stack.gate if self._find_breaker is None else self._find_breaker(args, kwargs)


class Places:
    """The places of one guarded callable. Immutable, and so safe for concurrent use."""

    __slots__ = ("_by_name", "guide", "idempotent")

    def __init__(self, by_name: Mapping[str, Place], guide: Guide, *, idempotent: bool) -> None:
        self._by_name = by_name
        self.guide = guide
        self.idempotent = idempotent

    def in_order(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Place]:
        """Those to be asked, best first: whose breaker lets calls through; else the one that will do so first."""
        places = [self._by_name[name] for name in self.guide.order(args)]
        gates = {place: place.gate(args, kwargs) for place in places}
        usable = [place for place in places if not gates[place].would_refuse()]
        return usable or [min(places, key=lambda place: float(gates[place].retry_after()))]


class Pass:
    """One pass over the places. Belongs to one thread or task."""

    __slots__ = ("_args", "_asked", "_ends", "_failed", "_left", "_places", "_terms")

    def __init__(self, places: Places, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._places = places
        self._args = args
        self._left = places.in_order(args, kwargs)
        self._failed: list[tuple[str, Exception]] = []
        self._ends, _, self._terms, *_ = get_published()
        self._asked = self._terms.asked

    def next(self) -> Visit | None:
        """The next place, if there is one and some time; else the pass has failed."""
        if not self._left or (self._failed and self._terms.clock.monotonic() >= self._ends):
            return None
        return Visit(self, self._left.pop(0))

    def failure(self) -> Exception:
        """
        The error of a pass without an answer: the last one that another pass may mend, else the last.

        What failed where is in its details, under ``endpoints``.
        """
        errors = [error for _, error in self._failed]
        told = next((error for error in reversed(errors) if classify_error(error).can_retry()), errors[-1])
        if len(errors) > 1 and isinstance(told, PixelLMError):
            told.details["endpoints"] = {
                name: f"{code_of(error) or type(error).__name__}: {text_of(error)}" for name, error in self._failed
            }
        self._failed.clear()  # their tracebacks hold frames that hold this: a cycle
        return told

    def failed(self, name: str, error: Exception) -> bool:
        """The call failed at place *name*. True if the next one may be asked."""
        if not may_be_better_elsewhere(error, idempotent=self._places.idempotent):
            self._failed.clear()
            return False
        self._failed.append((name, error))
        return True

    def note_asked(self, name: str) -> None:
        """The place has really been asked: no layer kept the call from it."""
        self._asked.append(name)

    @property
    def guide(self) -> Guide:
        """Who knows the places."""
        return self._places.guide

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments of the call."""
        return self._args

    def forget(self) -> None:
        """There is an answer: what failed before no longer matters."""
        self._failed.clear()


class Visit:
    """One place while it is asked. An error that another place may answer better ends only this."""

    __slots__ = ("_has_answered", "_pass", "_place")

    def __init__(self, of: Pass, place: Place) -> None:
        self._pass = of
        self._place = place
        self._has_answered = False

    @property
    def name(self) -> str:
        """The place's name."""
        return self._place.name

    @property
    def call(self) -> Callable[..., Any]:
        """Makes the call there."""
        return self._place.call

    def answered(self) -> None:
        """There is a result, or content: whatever comes now is the caller's."""
        if self._has_answered:
            return
        self._has_answered = True
        self._pass.forget()
        self._pass.note_asked(self.name)
        self._pass.guide.answered(self.name, self._pass.args)

    def __enter__(self) -> None:
        self._pass.guide.enter(self.name)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self._pass.guide.leave(self.name)
        if self._has_answered or not isinstance(error, Exception):
            return False
        if getattr(error, "attempts", None):  # what a layer refused has none
            self._pass.note_asked(self.name)
            self._pass.guide.failed(self.name, error)
        return self._pass.failed(self.name, error)
