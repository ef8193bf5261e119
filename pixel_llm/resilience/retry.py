"""
Retrying: tenacity decides whether and when, the stacks sleep and call.

The only module that knows tenacity. Entering tenacity costs tens of microseconds, so the
first attempt runs outside of it; :class:`RetrySequence` takes over after the first failure,
with that attempt already counted, and serves sync and async callers alike.
"""

from __future__ import annotations

import math

import tenacity

from pixel_llm.errors import PixelLMError, classify_error, http_status
from pixel_llm.policy import Jitter, RetryConfig
from pixel_llm.policy.sections.matching import NOTHING_SENT
from pixel_llm.resilience.limits import Limits


class Retry:
    """
    A compiled `retry` section. Safe for concurrent use.

    Args:
        config: Attempts and waits; durations are seconds.
        idempotent: Whether a call may be made twice. If not, only errors that
            prove that nothing was sent are retried.
    """

    def __init__(self, config: RetryConfig, *, idempotent: bool = True) -> None:
        self.config = config
        self._idempotent = idempotent
        self._attempts_used_up = tenacity.stop_after_attempt(config.max_attempts)
        self._retrying = tenacity.Retrying(
            retry=self._should_retry, wait=self._wait, stop=self._should_stop, reraise=True
        )

    def begin(self, limits: Limits) -> RetrySequence:
        """Start the sequence of one call, after its first attempt has failed, within *limits*."""
        return RetrySequence(self._retrying, limits)

    def _should_retry(self, state: tenacity.RetryCallState) -> bool:
        sequence, error = _look_into(state)
        classification = classify_error(error)
        if not self.config.retry_on.retries(classification, http_status(error)):
            sequence.reason = "this error is not retried"
        elif not self._idempotent and classification.error_code not in NOTHING_SENT:
            sequence.reason = "the target is not idempotent and something may have been sent"
        elif (_retry_after(error) or 0.0) > self.config.retry_after_max:
            sequence.reason = f"the server asks to wait {_retry_after(error):g} s, longer than retry_after_max"
        else:
            return True
        return False

    def _wait(self, state: tenacity.RetryCallState) -> float:
        delay = self.config.calculate_delay(state.attempt_number - 1)
        floor = _retry_after(_look_into(state)[1])
        if floor is None:
            return delay
        # Jitter only adds to what the server asked for, or all its clients would return at once.
        return floor + delay if self.config.jitter is Jitter.FULL else max(floor, delay)

    def _should_stop(self, state: tenacity.RetryCallState) -> bool:
        sequence, _ = _look_into(state)
        if self._attempts_used_up(state):
            sequence.reason = "all attempts are used up"
        elif sequence.time_left() <= 0:
            sequence.reason = "the deadline has passed"
        elif state.upcoming_sleep >= sequence.time_left():
            sequence.reason = f"the next wait, {state.upcoming_sleep:.1f} s, would outlive the deadline"
        else:
            return False
        return True


class RetrySequence:
    """
    The retries of one call. Belongs to one thread or task.

    Attributes:
        reason: Why the call is not tried again, once :meth:`after_failure` has answered None.
    """

    def __init__(self, retrying: tenacity.Retrying, limits: Limits) -> None:
        self.reason = ""
        self._limits = limits
        self._retrying = retrying
        self._state = tenacity.RetryCallState(retrying, None, (self,), {})

    def after_failure(self, error: Exception) -> float | None:
        """The seconds to wait before the next attempt, or None if there shall be none."""
        # tenacity keeps its statistics by thread; a task may come back in a thread that has none.
        self._retrying.begin()
        self._state.set_exception((type(error), error, error.__traceback__))
        traceback = error.__traceback__
        try:
            self._retrying.iter(self._state)
        except Exception as raised:
            if raised is not error:
                raise
            return None
        finally:
            error.with_traceback(traceback)  # without tenacity's frames: it gives up by raising the error
            self._state.prepare_for_next_attempt()  # forgets the error, whose traceback leads back here: a cycle
        return self._state.upcoming_sleep

    def time_left(self) -> float:
        """Seconds until the call's deadline; infinite without one."""
        if self._limits.deadline is None:
            return math.inf
        return self._limits.deadline - self._limits.clock.monotonic()


def _look_into(state: tenacity.RetryCallState) -> tuple[RetrySequence, BaseException]:
    outcome = state.outcome
    error = outcome.exception() if outcome is not None else None
    if error is None:  # it is only ever asked after a failure
        raise RuntimeError("a retry sequence was asked without an error")
    return state.args[0], error


def _retry_after(error: BaseException) -> float | None:
    return error.retry_after if isinstance(error, PixelLMError) else None
