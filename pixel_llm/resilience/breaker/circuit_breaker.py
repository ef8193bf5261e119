"""
The circuit breaker: who is let through, and what its verdict changes.

A caller asks for admission, runs without any lock, and settles with one of three verdicts: success, failure, or
neither. The states are those of pybreaker (:mod:`pixel_llm.resilience.breaker.machine`). The rates that it lacks are
taken of a window beside it (:mod:`pixel_llm.resilience.breaker.windows`), which drives its ``open``.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from pixel_llm.errors import CircuitBreakerOpen, ErrorCode, classify_error
from pixel_llm.errors.exceptions import refuse_call
from pixel_llm.policy import CircuitBreakerConfig
from pixel_llm.policy.durations import format_duration
from pixel_llm.policy.sections.circuit_breaker import BreakerMode
from pixel_llm.resilience.breaker import words
from pixel_llm.resilience.breaker.machine import Machine
from pixel_llm.resilience.breaker.rates import Rates
from pixel_llm.resilience.breaker.state import Changes, CircuitState, OnChange
from pixel_llm.resilience.checked import checked_breaker
from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock
from pixel_llm.resilience.threads.forking import forget_after_fork

_CLOSED, _OPEN, _HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN

#: Called for each call that a shadow breaker would have refused, with the code and ``retry_after`` of the refusal.
OnShadowRefusal = Callable[[ErrorCode, float | None], None]

_NOT_CLOSED = -1
_NEVER_ENDS = math.inf
_OPEN_CODE = ErrorCode.ERR_CB_OPEN
_FORCED_OPEN: Mapping[str, Any] = {"state": "open", "last_error_code": None}

#: The permit of a call that runs only because the breaker is a shadow. It settles nothing.
_WOULD_BE_REFUSED = -2


class CircuitBreaker:
    """
    A circuit breaker for one target, or for one key of it.

    Safe for concurrent use; no lock is held while a call runs, or while a callback does. Time alone
    changes no state: the first call that finds the cooldown over does. What is heavy is made when the
    first failure arrives.

    Args:
        name: What messages call it, usually the target.
        config: Thresholds; durations are seconds.
        is_checked: Whether the config has been checked already, as that of a stack has.
        key: The key that it is for, if its target has one for each.
        clock: Where time comes from.
        on_change: Called after each change of state, one at a time and in order.
        on_shadow_refusal: Called for each call that only ``mode: shadow`` lets through.

    Attributes:
        closed_period: While calls pass freely, their permit, which is never negative; else -1, and
            :meth:`acquire` must be asked.
        eventful: False where a success changes nothing, so that :meth:`record_success` need not be called.
    """

    __slots__ = (
        "__weakref__",
        "_cause",
        "_changes",
        "_clock",
        "_facts",
        "_full_since",
        "_given_back",
        "_last_code",
        "_lock",
        "_machine",
        "_on_change",
        "_on_shadow_refusal",
        "_open_until",
        "_openings",
        "_period",
        "_rates",
        "_refuses_until",
        "_state",
        "_trials",
        "_why",
        "closed_period",
        "config",
        "eventful",
        "key",
        "name",
    )

    def __init__(
        self,
        name: str,
        config: CircuitBreakerConfig | None = None,
        *,
        is_checked: bool = False,
        key: Hashable = None,
        clock: Clock = SYSTEM_CLOCK,
        on_change: OnChange | None = None,
        on_shadow_refusal: OnShadowRefusal | None = None,
    ) -> None:
        self.name = name
        self.key = key
        self.config = config if is_checked and config is not None else checked_breaker(name, config)
        self._clock = clock
        self._on_change = on_change
        self._on_shadow_refusal = on_shadow_refusal
        self._lock = threading.Lock()
        self._machine: Machine | None = None
        self._rates: Rates | None = None
        # A permit is the number of the period between two changes in which it was given, so
        # that a call admitted before a change can't settle anything after it.
        self._state = _CLOSED
        self._period = 0
        self.closed_period = 0
        self.eventful = False
        self._open_until = self._refuses_until = -math.inf
        self._openings = 0  # since it was last closed
        self._cause = self._why = ""
        self._last_code: ErrorCode | None = None
        self._facts: Mapping[str, Any] = _FORCED_OPEN
        self._trials = 0
        self._full_since = 0.0
        self._given_back: list[int] = []
        self._changes: Changes | None = None
        mode = self.config.mode
        if mode is BreakerMode.FORCED_OPEN:
            self._state = _OPEN
            self.closed_period = _NOT_CLOSED
            self._open_until = self._refuses_until = math.inf
            self._why = f"{words.circuit_breaker(self.key)} is forced open by its policy"
        elif mode is not BreakerMode.DISABLED:
            self.eventful = self.config.has_rate
        forget_after_fork(self)

    @property
    def state(self) -> CircuitState:
        """The state now; of a shadow the one it would have. OPEN lasts until the first call after the cooldown."""
        return self._state

    @property
    def failures(self) -> int:
        """Failures in a row, counted so far."""
        return self._machine.failures if self._machine is not None else 0

    def retry_after(self) -> float:
        """Seconds until an open breaker lets a trial through; 0 if calls are not refused by it, inf if forced open."""
        return max(0.0, self._refuses_until - self._clock.monotonic())

    def would_refuse(self) -> bool:
        """True while it is open, and the cooldown not over: then no call is admitted, whatever others do."""
        return self._refuses_until > self._clock.monotonic()

    def check(self) -> None:
        """
        Ask whether a call would be admitted now, taking no permit.

        Raises:
            CircuitBreakerOpen: If it would be refused.
        """
        if self.closed_period != _NOT_CLOSED or self.config.mode is BreakerMode.SHADOW:
            return
        wait = self._refuses_until - self._clock.monotonic()
        if wait > 0:
            raise self._refusal(wait)
        with self._lock:
            refusal = self._judge()
        if self._changes is not None:
            self._changes.tell()
        if refusal is not None:
            try:
                raise refusal
            finally:
                del refusal  # its traceback holds this frame: a cycle, and all that calls from here

    def acquire(self) -> int:
        """
        Ask for admission.

        Returns:
            A permit, to be handed to exactly one of :meth:`record_success`,
            :meth:`record_failure` and :meth:`release`.

        Raises:
            CircuitBreakerOpen: If the call is refused.
        """
        period = self.closed_period
        if period != _NOT_CLOSED:
            return period
        wait = self._refuses_until - self._clock.monotonic()
        if wait > 0:  # without the lock: the road of all that an open breaker refuses
            raise self._refusal(wait)
        return self._acquire_trial()

    def allow_request(self) -> bool:
        """Like :meth:`acquire`, answering True or False; settle without naming the permit."""
        try:
            self.acquire()
        except CircuitBreakerOpen:
            return False
        return True

    def record_success(self, permit: int | None = None, elapsed: float = 0.0) -> None:
        """Settle: the call succeeded, after *elapsed* seconds."""
        if not self.eventful:
            return  # closed, and no failure to forget: the road of nearly every call
        with self._lock:
            if not self._return_permit(permit):
                return
            slow = self._is_slow(elapsed)
            if self._state is _HALF_OPEN and slow:
                self._open("a slow trial call")
            else:
                self._succeed(slow)
        if self._changes is not None:
            self._changes.tell()

    def record_failure(self, permit: int | None = None, error: Exception | None = None, elapsed: float = 0.0) -> None:
        """Settle: the call failed after *elapsed* seconds, with *error*, in a way that counts."""
        if not self.config.measures:
            return
        code = classify_error(error).error_code if error is not None else None
        with self._lock:
            if not self._return_permit(permit):
                return
            self._last_code = code
            self._fail(self._is_slow(elapsed))
        if self._changes is not None:
            self._changes.tell()

    def release(self, permit: int | None = None) -> None:
        """
        Settle: the call proved nothing, neither success nor failure.

        It never waits for a lock, so a finalizer may call it wherever the garbage collector runs it.
        """
        period = self._period
        if self._state is _HALF_OPEN and (permit is None or permit == period):
            self._given_back.append(period)  # whoever counts the trials next takes it from here

    def reset(self) -> None:
        """Close the breaker and forget every failure. One that its policy forces open or disables stays as it is."""
        if not self.config.measures:
            return
        with self._lock:
            if self._machine is not None:
                self._machine.forget_failures()
            self._rates = None
            if self._state is not _CLOSED:
                self._made_machine().close()
            self.eventful = self.config.has_rate
        if self._changes is not None:
            self._changes.tell()

    def forget(self) -> None:
        """In a forked child: forget the trials of threads that are not in it, and what they did when it was forked."""
        self._lock = threading.Lock()
        self._trials = 0
        self._given_back.clear()
        if self._changes is not None:
            self._changes = Changes(self._on_change) if self._on_change is not None else None
        if self.config.measures:
            self.closed_period = self._period if self._state is _CLOSED else _NOT_CLOSED
            self.eventful = True

    # What follows is called with the lock held, unless it says otherwise.

    def _acquire_trial(self) -> int:
        """Admit a trial call, or refuse it. Takes the lock."""
        with self._lock:
            refusal = self._judge()
            if refusal is None:
                permit = self._admit()
        if self._changes is not None:
            self._changes.tell()
        if refusal is None:
            return permit
        if self.config.mode is not BreakerMode.SHADOW:
            try:
                raise refusal
            finally:
                del refusal  # as above
        if self._on_shadow_refusal is not None:
            self._on_shadow_refusal(refusal.error_code, refusal.retry_after)
        return _WOULD_BE_REFUSED

    def _judge(self) -> CircuitBreakerOpen | None:
        """The refusal that a call would get now; None if it would be admitted."""
        if self._state is _HALF_OPEN:
            self._collect_given_back()
            if self._trials < self.config.half_open_max_calls:
                return None
            wait, now = self.config.half_open_max_wait, self._clock.monotonic()
            if wait is None or now - self._full_since < wait:
                return self._refusal_beside_trials()
            self._open(f"{words.trial_calls(self._trials)} without a verdict for {format_duration(wait)}")
        if self._state is _OPEN:
            left = self._open_until - self._clock.monotonic()
            return self._refusal(left) if left > 0 else None
        return None

    def _admit(self) -> int:
        """Take a permit; in an open breaker the first of the trials."""
        if self._state is _OPEN:
            self._made_machine().half_open()
        if self._state is _HALF_OPEN:
            self._trials += 1
            if self._trials >= self.config.half_open_max_calls:
                self._full_since = self._clock.monotonic()
        return self._period

    def _return_permit(self, permit: int | None) -> bool:
        """Take a permit back; False if it settles nothing, since it is from before the last change, or of a shadow."""
        if permit is not None and permit != self._period:
            return False
        if self._state is _OPEN:
            return False
        self._trials = max(0, self._trials - 1)
        return True

    def _collect_given_back(self) -> None:
        while self._given_back:
            self._return_permit(self._given_back.pop())

    def _succeed(self, slow: bool) -> None:
        if self._machine is not None:
            self._machine.forget_failures()
        if self._state is _HALF_OPEN:
            self._made_machine().pass_trial()
        elif self.config.has_rate:
            self._measure(failed=False, slow=slow)
        else:
            self.eventful = False

    def _fail(self, slow: bool) -> None:
        self.eventful = True
        if not self._made_machine().fail() and self.config.has_rate:
            self._measure(failed=True, slow=slow)

    def _is_slow(self, elapsed: float) -> bool:
        limit = self.config.slow_call_duration
        return limit is not None and elapsed > limit

    def _measure(self, *, failed: bool, slow: bool) -> None:
        """Add a call to the window, and open if a rate is too high."""
        if self._rates is None:
            self._rates = Rates(self.config)
        cause = self._rates.record(failed=failed, slow=slow, now=self._clock.monotonic())
        if cause is not None:
            self._open(cause)

    def _open(self, cause: str) -> None:
        self._cause = cause
        self._made_machine().open()

    def _made_machine(self) -> Machine:
        """The machine, made when it is first needed."""
        if self._machine is None:
            self._machine = Machine(self.name, self.config, self._changed)
        return self._machine

    def _changed(self, old: CircuitState, new: CircuitState) -> None:
        """The machine's word that the state has changed."""
        self._period += 1
        self._trials = 0
        self._given_back.clear()
        self._state = new
        self._open_until = self._refuses_until = -math.inf
        if new is _OPEN:
            self._openings += 1
            cause = self._cause or words.failures(self.failures if old is _CLOSED else 0)
            self._why = f"{words.circuit_breaker(self.key)} is open after {cause}{words.last(self._last_code)}"
            self._facts = {"state": "open", "last_error_code": self._last_code}
            self._cause = ""
            self._open_until = self._clock.monotonic() + self.config.cooldown_after(self._openings)
            if self.config.mode is not BreakerMode.SHADOW:
                self._refuses_until = self._open_until
        elif new is _CLOSED:
            self._openings = 0
            self._rates = None
        self.eventful = new is not _CLOSED or self.config.has_rate
        self.closed_period = self._period if new is _CLOSED else _NOT_CLOSED
        if self._on_change is not None:
            if self._changes is None:
                self._changes = Changes(self._on_change)
            self._changes.add(old, new, self.failures, self._last_code)

    def _refusal(self, wait: float) -> CircuitBreakerOpen:
        """The refusal of an open breaker. Needs no lock."""
        return refuse_call(self._why, self._facts, _OPEN_CODE, self.name, wait if wait < _NEVER_ENDS else None)

    def _refusal_beside_trials(self) -> CircuitBreakerOpen:
        verb = "is" if self._trials == 1 else "are"
        half_open = f"{words.circuit_breaker(self.key)} is half open{words.last(self._last_code)}"
        why = f"{half_open}: {words.trial_calls(self._trials)} {verb} under way"
        facts = {"state": "half_open", "last_error_code": self._last_code}
        return refuse_call(why, facts, ErrorCode.ERR_CB_HALF_OPEN, self.name, None)
