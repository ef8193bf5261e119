"""One call through a stack, from its beginning to its end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pixel_llm.errors import AttemptRecord
from pixel_llm.resilience.breaker.circuit_breaker import CircuitBreaker
from pixel_llm.resilience.breaker.no_breaker import NO_BREAKER, NoBreaker
from pixel_llm.resilience.caching.single_flight import Ticket
from pixel_llm.resilience.limits import Terms
from pixel_llm.resilience.outcome import SERVED_BY_CALL, Outcome, SkippedStep
from pixel_llm.resilience.queues.admission import Held


class Call:
    """
    What the layers must know of one call. Belongs to one thread or task.

    Moments are float seconds on the stack's clock.

    Attributes:
        args: The positional arguments.
        kwargs: The keyword arguments.
        key: What names the call in caches, if anything does.
        started: The moment at which it began.
        gate: The breaker that its attempts pass, or what stands in its place.
        deadline: The moment at which it must be over; inf without one.
        terms: Its limits, but for the moments.
        attempts: How often the callable was called so far.
        attempt_started: The moment at which the last attempt began; a wait in a queue comes before it.
        queued: Whether that attempt had to wait in a queue.
        held: What that attempt got from its admission, where there is something to get.
        served_by: Who gave the value, as :class:`Outcome` has it.
        error: What a fallback stands in for.
        failed_beside: Attempts that failed beside others, for the history.
        skipped: The fallback steps that did not serve.
        ticket: Its part in a flight, if equal calls follow it.
    """

    __slots__ = (
        "args",
        "attempt_started",
        "attempts",
        "deadline",
        "error",
        "failed_beside",
        "gate",
        "held",
        "key",
        "kwargs",
        "queued",
        "served_by",
        "skipped",
        "started",
        "terms",
        "ticket",
    )

    def __init__(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        key: Any,
        started: float,
        deadline: float,
        terms: Terms,
        gate: CircuitBreaker | NoBreaker = NO_BREAKER,
    ) -> None:
        self.args = args
        self.kwargs = kwargs
        self.key = key
        self.started = self.attempt_started = started
        self.deadline = deadline
        self.terms = terms
        self.gate = gate
        self.attempts = 0
        self.queued = False
        self.held: Held | None = None
        self.served_by = SERVED_BY_CALL
        self.error: Exception | None = None
        self.failed_beside: list[AttemptRecord] = []
        self.skipped: tuple[SkippedStep, ...] = ()
        self.ticket: Ticket | None = None

    def beside(self, started: float) -> Call:
        """The call as one of several attempts side by side sees it, which begins at the moment *started*."""
        call = Call(self.args, self.kwargs, self.key, self.started, self.deadline, self.terms, self.gate)
        call.attempts = self.attempts
        call.attempt_started = started
        call.queued = self.queued
        return call

    def note_who_is_asked(self) -> None:
        """From now on its attempts may go to several places: note which of them were really asked."""
        self.terms = replace(self.terms, asked=[])

    @property
    def asked(self) -> int:
        """How often something was really called: the attempts, unless each may ask several places."""
        return self.attempts if self.terms.asked is None else len(self.terms.asked)

    def outcome(self, value: Any, ended: float) -> Outcome[Any]:
        """Its outcome, when it has ended with *value*."""
        return Outcome(
            value=value,
            served_by=self.served_by,
            degraded=self.error is not None,
            attempts=self.asked,
            elapsed=ended - self.started,
            error=self.error,
            skipped=self.skipped,
            asked=tuple(self.terms.asked or ()),
        )
