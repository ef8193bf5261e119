"""
The circuit breaker: pybreaker's state machine, driven from outside.

The only module that knows pybreaker. Its states, storage and listeners are used, its
``call`` is not: that one holds a lock while the guarded function runs, counts
cancellation as failure, takes neutral errors for successes and measures the cooldown by
wall clock. Here a caller asks for admission, runs without any lock, and settles with one
of three verdicts: success, failure, or neither.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import StrEnum

import pybreaker

from pixel_llm.errors import CircuitBreakerOpen, ErrorCode, classify_error
from pixel_llm.policy import CircuitBreakerConfig
from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock


class CircuitState(StrEnum):
    """CLOSED lets calls through, OPEN refuses them, HALF_OPEN lets a few trial calls through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


_STATES = {
    pybreaker.STATE_CLOSED: CircuitState.CLOSED,
    pybreaker.STATE_OPEN: CircuitState.OPEN,
    pybreaker.STATE_HALF_OPEN: CircuitState.HALF_OPEN,
}

#: Called after each change with (old state, new state, failures, code of the last failure).
OnChange = Callable[[CircuitState, CircuitState, int, ErrorCode | None], None]

_NOT_CLOSED = -1


class CircuitBreaker:
    """
    A circuit breaker for one target. Safe for concurrent use; no lock is held while a call runs.

    Args:
        name: What messages call it, usually the target.
        config: Thresholds; durations are seconds.
        clock: Where time comes from.
        on_change: Called, without any lock held, after each change of state.
    """

    def __init__(
        self,
        name: str,
        config: CircuitBreakerConfig | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        on_change: OnChange | None = None,
    ) -> None:
        self.name = name
        self.config = config or CircuitBreakerConfig()
        self._clock = clock
        self._on_change = on_change
        self._lock = threading.Lock()
        self._storage = pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
        self._engine = pybreaker.CircuitBreaker(
            fail_max=self.config.failure_threshold,
            success_threshold=self.config.success_threshold,
            state_storage=self._storage,
            listeners=[_Changes(self._changed)],
            throw_new_error_on_trip=False,
            name=name,
        )
        # A permit is the number of the period between two changes in which it was given, so
        # that a call admitted before a change can't settle anything after it.
        self._period = 0
        #: The permit of every call while the breaker is closed; else below 0, and :meth:`acquire` must be asked.
        self.closed_period = 0
        #: True if a success must be told: there are failures to forget, or trials to count.
        self.eventful = False
        self._opened_at = 0.0
        self._failures_at_opening = 0
        self._last_code: ErrorCode | None = None
        self._trials = 0
        self._changes: list[tuple[CircuitState, CircuitState, int, ErrorCode | None]] = []

    @property
    def state(self) -> CircuitState:
        """The state now. OPEN lasts until the first call after the cooldown, which becomes a trial."""
        return _STATES[self._storage.state]

    @property
    def failures(self) -> int:
        """Failures in a row, counted so far."""
        return int(self._storage.counter)

    def retry_after(self) -> float:
        """Seconds until an open breaker lets a trial through; 0 if it would now."""
        if self.state is not CircuitState.OPEN:
            return 0.0
        return max(0.0, self._opened_at + self.config.cooldown - self._clock.monotonic())

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
        return period if period != _NOT_CLOSED else self._acquire_trial()

    def allow_request(self) -> bool:
        """Like :meth:`acquire`, answering True or False; settle without naming the permit."""
        try:
            self.acquire()
        except CircuitBreakerOpen:
            return False
        return True

    def record_success(self, permit: int | None = None, elapsed: float = 0.0) -> None:
        """Settle: the call succeeded."""
        if not self.eventful:
            return  # closed, and no failure to forget: the road of nearly every call
        with self._lock:
            if not self._return_permit(permit):
                return
            self._storage.reset_counter()
            self._engine.state.on_success()
            self.eventful = self.closed_period == _NOT_CLOSED
        self._tell()

    def record_failure(self, permit: int | None = None, error: Exception | None = None, elapsed: float = 0.0) -> None:
        """Settle: the call failed in a way that counts."""
        with self._lock:
            if not self._return_permit(permit):
                return
            self._last_code = classify_error(error).error_code if error is not None else None
            self._storage.increment_counter()
            self.eventful = True
            error = error or Exception("failure")
            traceback = error.__traceback__
            try:
                self._engine.state.on_failure(error)
            except Exception as raised:
                # pybreaker raises what it was given when the breaker opens; that is no news here.
                if raised is not error:
                    raise
            finally:
                error.with_traceback(traceback)  # without pybreaker's frames
        self._tell()

    def release(self, permit: int | None = None) -> None:
        """Settle: the call proved nothing, neither success nor failure."""
        if self.closed_period == _NOT_CLOSED:
            with self._lock:
                self._return_permit(permit)

    def reset(self) -> None:
        """Close the breaker and forget every failure."""
        with self._lock:
            self._storage.reset_counter()
            if self.state is not CircuitState.CLOSED:
                self._engine.close()
            self.eventful = False
        self._tell()

    def _acquire_trial(self) -> int:
        try:
            with self._lock:
                if self.state is CircuitState.OPEN:
                    if self.retry_after() > 0:
                        raise self._refusal(ErrorCode.ERR_CB_OPEN)
                    self._engine.half_open()
                if self.state is CircuitState.HALF_OPEN:
                    if self._trials >= self.config.half_open_max_calls:
                        raise self._refusal(ErrorCode.ERR_CB_HALF_OPEN)
                    self._trials += 1
                return self._period
        finally:
            self._tell()

    def _return_permit(self, permit: int | None) -> bool:
        """Take a permit back; False if it is from before the last change. Call with the lock held."""
        if permit is not None and permit != self._period:
            return False
        if self.state is CircuitState.OPEN:
            return False
        self._trials = max(0, self._trials - 1)
        return True

    def _refusal(self, code: ErrorCode) -> CircuitBreakerOpen:
        last = f" (last: {self._last_code})" if self._last_code else ""
        wait = self.retry_after()
        if code is ErrorCode.ERR_CB_OPEN:
            failures = self._failures_at_opening
            count = "a failed trial call" if not failures else f"{failures} failure{'s' if failures > 1 else ''}"
            text = f"circuit breaker is open after {count}{last}; next trial in {wait:.1f} s"
        else:
            trials = "1 trial call is" if self._trials == 1 else f"{self._trials} trial calls are"
            text = f"circuit breaker is half open{last}: {trials} under way"
        details = {"state": self.state.value, "last_error_code": self._last_code}
        retry_after = wait if code is ErrorCode.ERR_CB_OPEN else None
        return CircuitBreakerOpen(text, error_code=code, target=self.name, details=details, retry_after=retry_after)

    def _changed(self, old: CircuitState, new: CircuitState) -> None:
        """Pybreaker's word that the state has changed. Called with the lock held."""
        self._period += 1
        self.closed_period = self._period if new is CircuitState.CLOSED else _NOT_CLOSED
        self._trials = 0
        if new is CircuitState.OPEN:
            self._opened_at = self._clock.monotonic()
            self._failures_at_opening = self.failures if old is CircuitState.CLOSED else 0
        self._changes.append((old, new, self.failures, self._last_code))

    def _tell(self) -> None:
        while self._changes:
            try:
                change = self._changes.pop(0)
            except IndexError:  # another thread told it
                return
            if self._on_change is not None:
                self._on_change(*change)


class NoBreaker:
    """What stands in a breaker's place where there is none: it lets everything through and counts nothing."""

    closed_period = 0
    eventful = False

    def check(self) -> None:
        """Refuse nobody."""

    def acquire(self) -> int:
        """Let everybody in."""
        return 0

    def record_success(self, permit: int, elapsed: float) -> None:
        """Count nothing."""

    def record_failure(self, permit: int, error: Exception, elapsed: float) -> None:
        """Count nothing."""

    def release(self, permit: int) -> None:
        """Count nothing."""


NO_BREAKER = NoBreaker()


class _Changes(pybreaker.CircuitBreakerListener):
    def __init__(self, changed: Callable[[CircuitState, CircuitState], None]) -> None:
        self._changed = changed

    def state_change(self, cb: object, old_state: object, new_state: object) -> None:
        self._changed(_STATES[getattr(old_state, "name", "")], _STATES[getattr(new_state, "name", "")])
