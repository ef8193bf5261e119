"""What happens after a call's first failure. Success never comes here."""

from __future__ import annotations

import contextlib
from typing import Any

from pixel_llm.errors import (
    AttemptRecord,
    ErrorCode,
    PixelLMError,
    classify_error,
)
from pixel_llm.events import (
    AttemptFailed,
    CallFailed,
    CallRecovered,
    CallRefused,
    FallbackServed,
    FallbackSkipped,
    RetryScheduled,
)
from pixel_llm.resilience.limits import Limits
from pixel_llm.resilience.outcome import SERVED_BY_CALL, Outcome
from pixel_llm.resilience.stack import Stack


class Recovery:
    """
    One call in trouble: its history and the decisions about it. Belongs to one thread or task.

    The guards own the loop (they sleep and call); this class says what comes next.
    """

    def __init__(self, stack: Stack, limits: Limits, started: float) -> None:
        self.attempt_started = started
        self._stack = stack
        self._limits = limits
        self._started = started
        self._attempts = 0
        self._history: list[AttemptRecord] = []
        self._sequence = stack.retry.begin(limits) if stack.retry is not None else None
        self._reason = "the target does not retry"
        self._last_error: Exception | None = None

    def next_wait(self, error: Exception) -> float | None:
        """
        Take note of a failed attempt.

        Returns:
            Seconds to wait before the next one, or None if the call has failed for good.
        """
        layer = self._stack.refused_by(error)
        if layer is not None:
            error.__cause__ = self._last_error  # what the attempts before the refusal failed of
            self._refused(layer, error)
            return None
        self._attempts += 1
        self._last_error = error
        wait = self._decide(error)
        self._note(error, wait or 0.0)
        if wait is not None:
            self._stack.emit(RetryScheduled(self._stack.target, self._attempts, wait, _code(error)))
        return wait

    def begin_attempt(self) -> None:
        """Take the time before another attempt."""
        self.attempt_started = self._stack.clock.monotonic()

    def recovered(self, value: Any) -> Outcome[Any]:
        """The outcome of a call that succeeded after all."""
        self._last_error = None
        elapsed = self._elapsed()
        self._stack.emit(CallRecovered(self._stack.target, self._attempts + 1, elapsed))
        return Outcome(
            value=value, served_by=SERVED_BY_CALL, degraded=False, attempts=self._attempts + 1, elapsed=elapsed
        )

    def finish(self, error: Exception, key: Any) -> Outcome[Any]:
        """
        End a call that has failed for good. *key* names it in the fallback's cache.

        Returns:
            What a fallback served.

        Raises:
            Exception: *error* itself, with ``attempts`` and ``history``, where none did.
        """
        target, emit = self._stack.target, self._stack.emit
        self._last_error = None  # its traceback leads back here: a cycle
        self._mark(error)
        emit(CallFailed(target, self._attempts, _code(error), _text(error), self._elapsed(), self._reason))
        fallback = self._stack.fallback
        served, skipped = fallback.serve(error, key) if fallback is not None else (None, [])
        for step in skipped:
            emit(FallbackSkipped(target, step.step, step.reason))
        if served is None:
            try:
                raise error
            finally:
                del error  # its traceback holds this frame: a cycle
        emit(FallbackServed(target, served.by, _code(error), served.age))
        return Outcome(
            value=served.value,
            served_by=served.by,
            degraded=True,
            attempts=self._attempts,
            elapsed=self._elapsed(),
            error=error,
            skipped=tuple(skipped),
        )

    def _decide(self, error: Exception) -> float | None:
        if self._sequence is None:
            return None
        wait = self._sequence.after_failure(error)
        if wait is None:
            self._reason = self._sequence.reason
        elif self._stack.would_refuse():
            self._reason = "the circuit breaker has opened"
            return None
        return wait

    def _refused(self, layer: str, error: Exception) -> None:
        self._reason = "the circuit breaker refused" if layer == "circuit_breaker" else "the deadline has passed"
        retry_after = error.retry_after if isinstance(error, PixelLMError) else None
        self._stack.emit(CallRefused(self._stack.target, layer, _code(error), retry_after))

    def _note(self, error: Exception, waited: float) -> None:
        elapsed = self._stack.clock.monotonic() - self.attempt_started
        self._history.append(AttemptRecord(self._attempts, _text(error), _code(error), elapsed, waited))
        self._stack.emit(AttemptFailed(self._stack.target, self._attempts, _code(error), _text(error), elapsed))

    def _mark(self, error: Exception) -> None:
        """Write into *error* what the call went through, unless an inner target has already."""
        if getattr(error, "attempts", None) is not None:
            return
        if isinstance(error, PixelLMError):
            error.target = error.target or self._stack.target
            error.attempt = error.attempt or self._attempts
        note = f"gave up after {self._attempts} attempts in {self._elapsed():.1f} s: {self._reason}"
        # An exception of somebody else's may refuse attributes and notes; it is raised all the same.
        with contextlib.suppress(Exception):
            error.attempts = self._attempts  # type: ignore[attr-defined]
            error.history = tuple(self._history)  # type: ignore[attr-defined]
        with contextlib.suppress(Exception):
            if self._attempts > 1:
                error.add_note(f"{self._stack.target}: {note}")

    def _elapsed(self) -> float:
        return self._stack.clock.monotonic() - self._started


def _code(error: Exception) -> ErrorCode | None:
    return classify_error(error).error_code


def _text(error: Exception) -> str:
    try:
        text = error.message if isinstance(error, PixelLMError) else f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - somebody else's __str__ may fail; the error is raised all the same
        text = f"{type(error).__name__}: <its text failed>"
    return text if len(text) <= 500 else f"{text[:499]}…"
