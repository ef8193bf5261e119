"""
Retrying: tenacity decides whether and when, the stacks sleep and call.

The only module that knows tenacity. Entering tenacity costs tens of microseconds, so the
first attempt runs outside of it; :class:`RetryState` takes over after the first failure,
with that attempt already counted, and serves sync and async callers alike.
"""

from __future__ import annotations

from functools import cache
from math import inf
from typing import NoReturn

import tenacity

from pixel_llm.errors import (
    ErrorClassification,
    ErrorFamily,
    PixelLMError,
    classify_error,
    http_status,
    retry_after,
)
from pixel_llm.policy import RetryConfig
from pixel_llm.policy.sections.matching import NOTHING_SENT
from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock
from pixel_llm.resilience.retrying.rejection import is_rejection


class Retry:
    """
    A compiled `retry` section. Safe for concurrent use.

    Args:
        config: Attempts and waits; durations are seconds.
        idempotent: Whether a call may be made twice. If not, only errors that
            prove that nothing was sent are retried.
    """

    __slots__ = ("config", "idempotent")

    def __init__(self, config: RetryConfig, *, idempotent: bool = True) -> None:
        self.config = config
        self.idempotent = idempotent

    def begin(self, clock: Clock = SYSTEM_CLOCK, deadline: float = inf) -> RetryState:
        """Start the sequence of one call, after its first attempt has failed; its deadline is a moment on *clock*."""
        return RetryState(self, clock, deadline)


class RetryState:
    """
    The retries of one call. Belongs to one thread or task.

    Attributes:
        reason: Why the call is not tried again, once :meth:`after_failure` has answered None.
    """

    __slots__ = ("_clock", "_deadline", "_engine", "_previous", "_retry", "_state", "reason")

    def __init__(self, retry: Retry, clock: Clock, deadline: float) -> None:
        self.reason = ""
        self._clock = clock
        self._deadline = deadline
        self._retry = retry
        self._previous: float | None = None
        self._engine = _engine(retry.config.max_attempts)
        self._state = tenacity.RetryCallState(self._engine, None, (), {})

    def after_failure(self, error: Exception) -> float | None:
        """The seconds to wait before the next attempt, or None if there shall be none."""
        failure = _Failure(error)
        if not self._engine.statistics:
            self._engine.begin()  # tenacity keeps them by thread, and a sequence may go on in another one
        self._state.outcome = failure  # type: ignore[assignment]  # as much of a tenacity.Future as is asked for
        self._state.args = (self,)
        traceback = error.__traceback__
        try:
            self._engine.iter(self._state)
        except Exception as raised:
            if raised is not error:
                raise
            return None
        finally:
            error.with_traceback(traceback)  # without tenacity's frames: it gives up by raising the error
            self._state.args = ()  # else the two hold each other
            self._state.prepare_for_next_attempt()  # forgets the error, whose traceback leads back here: a cycle
        return self._state.upcoming_sleep

    def is_retried(self, failure: _Failure) -> bool:
        """True if an attempt that ended so may be repeated."""
        retry, asked = self._retry, failure.asked
        if failure.is_rejection:
            wanted = retry.config.retry_on_result is not None
        else:
            wanted = retry.config.retry_on.retries(failure.classification, failure.status)
        if not wanted:
            self.reason = "this error is not retried"
        elif not failure.repeatable:
            self.reason = "what was sent can't be sent a second time"
        elif not retry.idempotent and failure.classification.error_code not in NOTHING_SENT:
            self.reason = "the target is not idempotent and something may have been sent"
        elif asked is not None and asked > retry.config.retry_after_max:
            self.reason = f"the server asks to wait {asked:g} s, longer than retry_after_max"
        else:
            return True
        return False

    def next_wait(self, number: int, asked: float | None) -> float:
        """
        The wait in seconds after attempt *number*, counted from 0, if the server asks for *asked*.

        Of a wait, jitter leaves one part to chance and another not. What the server asks for stands for the latter
        where it is longer, and chance only adds to it, or all clients that were told the same would return at once.
        """
        config = self._retry.config
        delay = self._previous = config.draw(number, self._previous)
        if asked is None:
            return delay
        least = config.floor(number)
        return max(asked, least) + (delay - least)

    def is_too_late(self, wait: float) -> bool:
        """True if the deadline has passed, or will have after *wait*."""
        if self._deadline == inf:
            return False
        left = self._deadline - self._clock.monotonic()
        if left <= 0:
            self.reason = "the deadline has passed"
        elif wait >= left:
            self.reason = f"the next wait, {wait:.1f} s, would outlive the deadline"
        else:
            return False
        return True


class _Failure:
    """
    A failed attempt, as tenacity asks for it, without the locks of a real future.

    What the error says is asked here, once, since somebody else's error may run any code to answer.
    """

    __slots__ = ("_error", "asked", "classification", "is_rejection", "repeatable", "status")

    failed = True

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.classification = classify_error(error)
        self.is_rejection = is_rejection(error)
        self.status = http_status(error)
        self.repeatable = not isinstance(error, PixelLMError) or error.repeatable
        self.asked = retry_after(error) if _is_an_answer(self.classification) else None

    def exception(self) -> Exception:
        return self._error

    def result(self) -> NoReturn:
        raise self._error


def _is_an_answer(classification: ErrorClassification) -> bool:
    """True unless the error's code says that no server has answered: then no server has asked for anything."""
    code = classification.error_code
    return code is None or code.info.family is ErrorFamily.API


# What tenacity asks, and how it reaches the sequence of the call: one engine serves all calls.


@cache
def _engine(max_attempts: int) -> tenacity.Retrying:
    """The engine of all sections with *max_attempts*, made when the first of their calls has failed."""
    used_up = tenacity.stop_after_attempt(max_attempts)

    def should_stop(state: tenacity.RetryCallState) -> bool:
        sequence: RetryState = state.args[0]
        if used_up(state):
            sequence.reason = "all attempts are used up"
            return True
        return sequence.is_too_late(state.upcoming_sleep)

    return tenacity.Retrying(retry=_should_retry, wait=_wait, stop=should_stop, reraise=True)


def _should_retry(state: tenacity.RetryCallState) -> bool:
    sequence: RetryState = state.args[0]
    return sequence.is_retried(state.outcome)  # type: ignore[arg-type]  # after_failure() has put it there


def _wait(state: tenacity.RetryCallState) -> float:
    sequence: RetryState = state.args[0]
    return sequence.next_wait(state.attempt_number - 1, state.outcome.asked)  # type: ignore[union-attr]
