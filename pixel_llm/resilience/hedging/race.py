"""The attempts of one round, side by side: who is sent when, and whose result it is. Both worlds share it."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from pixel_llm.errors import AttemptRecord, ErrorCategory, PixelLMError, classify_error
from pixel_llm.events import AttemptFailed, HedgeSent, HedgeSkipped, HedgeWon
from pixel_llm.resilience.call import Call
from pixel_llm.resilience.error_words import code_of, refused_by, text_of
from pixel_llm.resilience.hedging.delays import Hedging
from pixel_llm.resilience.stack import Stack


class Contender:
    """
    One attempt of a race.

    Attributes:
        number: Which attempt of its call it is, counted from 1; 0 until it begins.
        call: The call as this attempt sees it.
        permit: What admission gave it.
    """

    __slots__ = ("call", "number", "permit")

    def __init__(self, call: Call, permit: int) -> None:
        self.number = 0
        self.call = call
        self.permit = permit


class Race:
    """
    One round of attempts. Belongs to one thread or task.

    The first success wins. If all fail, the last failure is the round's, as the server's latest word; a
    PERMANENT error is the round's at once, since it is the answer to every one of them.

    Args:
        stack: The layers.
        call: The call.
        hedging: When others are sent beside the first attempt.
        enter: Admits another one, or raises what refuses it; None if it would have to wait.
    """

    def __init__(self, stack: Stack, call: Call, hedging: Hedging, enter: Callable[[Call], int | None]) -> None:
        self._stack = stack
        self._call = call
        self._hedging = hedging
        self._enter = enter
        self._left = hedging.config.max_hedges
        # One that would be sent when the one before has run out of time has nothing to stand beside.
        delay, timeout = hedging.delay(), stack.timing.attempt_timeout
        self._delay = delay if timeout is None or delay < timeout else inf
        self._last_sent = call.attempt_started
        self._primary: Contender | None = None
        self._failures: list[tuple[Contender, Exception, float]] = []

    def primary(self, permit: int) -> Contender:
        """The first attempt, which has been admitted."""
        self._primary = Contender(self._call.beside(self._call.attempt_started), permit)
        return self._primary

    def next_moment(self) -> float:
        """The moment at which another attempt is to be sent; inf if none is, as when the deadline leaves no room."""
        moment = self._last_sent + self._delay
        return moment if self._left and moment < self._call.deadline else inf

    def send_another(self) -> Contender | None:
        """Another attempt, admitted; None if a layer would not let it in now, or only after a wait."""
        now = self._stack.clock.monotonic()
        self._left -= 1
        self._last_sent = now
        try:
            permit = self._enter(self._call)
        except PixelLMError as refusal:
            self._stack.report(HedgeSkipped, refused_by(refusal)[0], refusal.error_code)
            return None
        if permit is None:
            self._stack.report(HedgeSkipped, "queue", None)
            return None
        return Contender(self._call.beside(now), permit)

    def begin(self, contender: Contender) -> None:
        """
        Count *contender*, whose callable is called next.

        Not before: a task that is cancelled ahead of its first step never calls anything.
        """
        self._call.attempts += 1
        contender.number = self._call.attempts
        if contender is not self._primary:
            after = contender.call.attempt_started - self._call.attempt_started
            self._stack.report(HedgeSent, contender.number, after)

    def won(self, contender: Contender, value: Any) -> Any:
        """*contender* has succeeded with *value*, which is the round's."""
        elapsed = self._stack.clock.monotonic() - self._call.attempt_started
        self._hedging.record(elapsed)
        self._note(self._failures)
        if contender is not self._primary:
            self._stack.report(HedgeWon, contender.number, elapsed)
        return value

    def lost(self, contender: Contender, error: Exception) -> bool:
        """*contender* has failed of *error*. True if that is the answer to all of them."""
        self._failures.append((contender, error, self._stack.clock.monotonic() - contender.call.attempt_started))
        return classify_error(error).category is ErrorCategory.PERMANENT

    def failure(self) -> Exception:
        """The round's failure, when there is no attempt left that could succeed."""
        *others, (contender, error, _) = self._failures
        self._failures = []
        self._note(others)
        self._call.attempt_started = contender.call.attempt_started
        return error

    def _note(self, failures: list[tuple[Contender, Exception, float]]) -> None:
        """Report failures that are not the round's."""
        for contender, error, elapsed in failures:
            code, text = code_of(error), text_of(error)
            self._call.failed_beside.append(AttemptRecord(contender.number, text, code, elapsed))
            self._stack.report(AttemptFailed, contender.number, code, text, elapsed)
