"""What happens after a call's first failure. Success never comes here."""

from __future__ import annotations

import contextlib
import random
from enum import Enum, auto
from math import inf
from typing import Any

from pixel_llm.errors import (
    Arrived,
    AttemptRecord,
    CircuitBreakerOpen,
    ErrorCode,
    PixelLMError,
    RetryExhausted,
    retry_after,
)
from pixel_llm.events import (
    AttemptFailed,
    CallFailed,
    CallRecovered,
    CallRefused,
    FallbackServed,
    FallbackSkipped,
    RetryScheduled,
    StreamBroken,
)
from pixel_llm.resilience.caching.read_through import tell_followers
from pixel_llm.resilience.call import Call
from pixel_llm.resilience.error_words import code_of, refused_by, text_of
from pixel_llm.resilience.fallbacks.chain import FallbackRun
from pixel_llm.resilience.limits import NO_TERMS, get_published
from pixel_llm.resilience.retrying.budget import BudgetShare
from pixel_llm.resilience.retrying.retry import RetryState
from pixel_llm.resilience.stack import Stack

#: While trial calls of others are under way, a call that waits for the breaker asks again after so many seconds.
_LONGEST_LOOK_AWAY = 1.0

#: A shorter wait, in seconds, may leave the clock where it was.
_SHORTEST_WAIT = 0.001


class Recovery:
    """
    One call in trouble: its history and the decisions about it. Belongs to one thread or task.

    The guards own the loop (they sleep and call); this class says what comes next.
    """

    __slots__ = ("_call", "_history", "_instead", "_last_error", "_reason", "_sequence", "_stack", "_trials_since")

    def __init__(self, stack: Stack, call: Call) -> None:
        self._stack = stack
        self._call = call
        self._history: list[AttemptRecord] = []
        self._sequence: RetryState | None = None
        self._reason = "the target does not retry"
        self._last_error: Exception | None = None
        self._instead: Exception | None = None  # what is raised instead of the last error
        self._trials_since: float | None = None  # when trial calls of others began to hold this one back

    def after_refusal(self, error: Exception) -> float | None:
        """
        Take note that a layer kept an attempt from beginning.

        Returns:
            Seconds to wait before the call asks again, or None if it has failed for good.
        """
        layer, self._reason = refused_by(error)
        wait = self._wait_for_breaker(error)
        if wait is not None:
            self._stack.report(RetryScheduled, self._call.attempts, wait, code_of(error))
            return wait
        error.__cause__ = self._last_error  # what the attempts before the refusal failed of
        self._stack.report(CallRefused, layer, code_of(error), retry_after(error))
        return None

    def after_failure(self, error: Exception) -> float | None:
        """
        Take note of a failed attempt.

        Returns:
            Seconds to wait before the next one, or None if the call has failed for good.
        """
        self._last_error = error
        if self._stack.budget is not None and self._call.attempts == 1:
            self._stack.budget.count_call()
        wait = self._decide(error)
        self._note(error, wait or 0.0)
        if wait is not None:
            self._stack.report(RetryScheduled, self._call.attempts, wait, code_of(error))
        return wait

    def recovered(self, elapsed: float | None = None) -> None:
        """The call has succeeded after all, within *elapsed* seconds: by default all that have passed."""
        self._last_error = None
        elapsed = self._elapsed() if elapsed is None else elapsed
        self._stack.counters.record_success(elapsed)
        self._stack.report(CallRecovered, self._call.asked, elapsed)

    def has_content(self) -> None:
        """The call has become a stream, which lives on: what went wrong before is let go of."""
        self._last_error = None  # its traceback leads back to the stream: a cycle, were it to be dropped

    def broken(self, error: Exception, arrived: Arrived) -> None:
        """End a stream that broke when it had delivered content, so that nothing can serve in its place."""
        attempt, code, text, elapsed = self._call.attempts, code_of(error), text_of(error), self._elapsed()
        self._reason = "content had been delivered"
        self._last_error = None
        self._history.append(
            AttemptRecord(attempt, text, code, self._stack.clock.monotonic() - self._call.attempt_started)
        )
        self._mark(error)
        with contextlib.suppress(Exception):
            error.arrived = arrived  # type: ignore[attr-defined]
        self._stack.report(StreamBroken, arrived.chunks, code, text, elapsed)
        self._stack.report(CallFailed, attempt, code, text, elapsed, self._reason)

    def finish(self, error: Exception) -> Any:
        """
        End a call that has failed for good, where no fallback step takes time.

        Returns:
            What a fallback served; the call knows who did.

        Raises:
            Exception: *error* itself, with ``attempts`` and ``history``, where none did.
        """
        try:
            run = self.begin_fallback(error)
            run.next_step()
            return self.end_fallback(run)
        finally:
            run = error = None  # type: ignore[assignment]  # the error's traceback holds this frame: a cycle

    def give_up(self, reason: str) -> None:
        """Note why a call has failed that was never tried: one like it was."""
        self._reason = reason

    def begin_fallback(self, error: Exception) -> FallbackRun:
        """The call has failed for good: begin to serve in its place. Raises *error* where there is no fallback."""
        stack, call = self._stack, self._call
        if self._instead is not None:
            error, self._instead = self._instead, None
        self._last_error = None  # its traceback leads back here: a cycle
        self._mark(error)
        stack.report(CallFailed, call.asked, code_of(error), text_of(error), self._elapsed(), self._reason)
        tell_followers(call, error, stack.clock.monotonic())
        if stack.fallback is not None:
            return stack.fallback.begin(error, call.key)
        try:
            raise error
        finally:
            del error  # its traceback holds this frame: a cycle

    def end_fallback(self, run: FallbackRun) -> Any:
        """What a fallback served; see :meth:`finish`."""
        stack, call, error, served = self._stack, self._call, run.error, run.served
        for step in run.skipped:
            stack.report(FallbackSkipped, step.step, step.reason)
        if served is None:
            try:
                raise error
            finally:
                del error, run
        stack.report(FallbackServed, served.by, code_of(error), served.age)
        call.served_by, call.error, call.skipped = served.by, error, tuple(run.skipped)
        return served.value

    def _decide(self, error: Exception) -> float | None:
        retry = self._stack.retry
        if retry is None:
            return None
        if self._sequence is None:
            self._sequence = retry.begin(self._stack.clock, self._call.deadline)
        wait = self._sequence.after_failure(error)
        if wait is None:
            self._reason = self._sequence.reason
            return None
        gate = self._call.gate
        if gate.would_refuse():
            wait = max(wait, gate.retry_after())
            self._reason = "the circuit breaker has opened"
            if not self._stack.waits_for_breaker or self._is_too_late(wait):
                return None
        if self._stack.budget is not None and not self._stack.budget.take():
            self._reason = "the retry budget is empty"
            self._instead = _budget_is_empty(self._stack.budget, error)
            return None
        return wait

    def _wait_for_breaker(self, refusal: Exception) -> float | None:
        """Seconds to wait until the breaker may let the call through; None if it is not waited for."""
        section = self._stack.policy.circuit_breaker
        if section is None or not self._stack.waits_for_breaker or not isinstance(refusal, CircuitBreakerOpen):
            return None
        if refusal.error_code is not ErrorCode.ERR_CB_HALF_OPEN:
            self._trials_since = None
        elif self._trials_hang(section.cooldown):
            return None
        if refusal.error_code is ErrorCode.ERR_CB_HALF_OPEN:
            # Others' trial calls are under way, and nobody knows for how long.
            longest = min(_LONGEST_LOOK_AWAY, section.cooldown / 20)
            wait = longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        elif refusal.retry_after is not None and refusal.retry_after < inf:
            wait = refusal.retry_after
        else:  # forced open
            return None
        wait = max(wait, _SHORTEST_WAIT)
        return None if self._is_too_late(wait) else wait

    def _trials_hang(self, cooldown: float) -> bool:
        """True if trial calls have held this one back for a whole *cooldown*, and no deadline ever ends the wait."""
        now = self._stack.clock.monotonic()
        if self._trials_since is None:
            self._trials_since = now
        hang = self._call.deadline == inf and now - self._trials_since >= cooldown
        if hang:
            self._reason += f", whose trial calls have not ended for {cooldown:g} s, and no deadline bounds the wait"
        return hang

    def _is_too_late(self, wait: float) -> bool:
        """True if the deadline will have passed after *wait*; the reason why the call fails then says so."""
        too_late = self._call.deadline - self._stack.clock.monotonic() <= wait
        if too_late:
            self._reason += f", and waiting {wait:.1f} s for it would outlive the deadline"
        return too_late

    def _note(self, error: Exception, waited: float) -> None:
        attempt, code, text = self._call.attempts, code_of(error), text_of(error)
        elapsed = self._stack.clock.monotonic() - self._call.attempt_started
        self._history += self._call.failed_beside
        self._call.failed_beside = []
        self._history.append(AttemptRecord(attempt, text, code, elapsed, waited, _inner_history(error)))
        self._stack.report(AttemptFailed, attempt, code, text, elapsed)

    def _mark(self, error: Exception) -> None:
        """
        Write into *error* what the call went through.

        What an inner call has written stays where this one made a single attempt, which has nothing to add; else it is
        in the records of the attempts. An exception of somebody else's that has such attributes itself keeps them.
        """
        attempts, told = self._call.asked, _told(error)
        if told is _Told.ELSEWHERE or (told is _Told.INSIDE and attempts <= 1):
            return
        if isinstance(error, PixelLMError):
            error.target = error.target or self._stack.target
            error.attempt = (error.attempt if told is _Told.NOWHERE else None) or attempts
        # An exception of somebody else's may refuse attributes and notes; it is raised all the same.
        with contextlib.suppress(Exception):
            if getattr(error, "retry_after", None) is None and (asked := retry_after(error)) is not None:
                error.retry_after = asked  # type: ignore[attr-defined]  # what the answer said
        with contextlib.suppress(Exception):
            error.attempts = attempts  # type: ignore[attr-defined]
            error.history = tuple(self._history)  # type: ignore[attr-defined]
            error._told_at = _depth()  # type: ignore[attr-defined]
        if attempts > 1:
            note = f"gave up after {attempts} attempts in {self._elapsed():.1f} s: {self._reason}"
            with contextlib.suppress(Exception):
                error.add_note(f"{self._stack.target}: {note}")

    def _elapsed(self) -> float:
        return self._stack.clock.monotonic() - self._call.started


def _depth() -> int:
    """How many guarded calls are around the one that ends here, less one."""
    published = get_published()
    # A call that has succeeded leaves its limits behind, lifted: nothing is around.
    depth: int = -1 if published[2] is NO_TERMS else published[3]
    return depth


class _Told(Enum):
    """Who has written into an error what its call went through."""

    NOWHERE = auto()
    #: A guarded call inside of the one that ends here.
    INSIDE = auto()
    #: Nobody of ours.
    ELSEWHERE = auto()


def _told(error: Exception) -> _Told:
    try:
        depth = getattr(error, "_told_at", None)
        if depth is not None:
            # Not a call as deep as this one: a program may raise the same error again and again.
            return _Told.INSIDE if depth > _depth() else _Told.NOWHERE
        if getattr(error, "attempts", None) is None:
            return _Told.NOWHERE
    except Exception:  # noqa: BLE001 - somebody else's __getattr__ may fail
        return _Told.NOWHERE
    return _Told.INSIDE if isinstance(error, PixelLMError) else _Told.ELSEWHERE  # ours: see refuse()


def _inner_history(error: Exception) -> tuple[AttemptRecord, ...]:
    """What a guarded call inside of the one that ends here went through before it raised *error*."""
    return error.history if _told(error) is _Told.INSIDE else ()  # type: ignore[attr-defined]


def refuse(stack: Stack, started: float, error: PixelLMError) -> None:
    """
    End a call that began at the moment *started*, whose first attempt a layer refused with *error*.

    The short form of what :class:`Recovery` does, where nothing serves in its place.
    """
    error.attempts = error.attempt = 0
    stack.counters.count(CallRefused.name)
    stack.counters.count(CallFailed.name)
    if stack.listener is not None:
        layer, reason = refused_by(error)
        elapsed = stack.clock.monotonic() - started
        stack.listener(CallRefused(stack.target, layer, error.error_code, error.retry_after))
        stack.listener(CallFailed(stack.target, 0, error.error_code, text_of(error), elapsed, reason))


def _budget_is_empty(share: BudgetShare, last: Exception) -> RetryExhausted:
    text = f"the retry budget is empty ({share.budget.in_words()}); last: {text_of(last)}"
    error = RetryExhausted(text, error_code=ErrorCode.ERR_RETRY_BUDGET, retry_after=retry_after(last))
    error.__cause__ = last
    return error
