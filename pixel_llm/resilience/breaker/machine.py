"""
pybreaker's state machine, driven from outside.

The only module that knows pybreaker. Its states, storage and listeners are used, its ``call`` is not: that one holds
a lock while the guarded function runs, counts cancellation as failure, takes neutral errors for successes and measures
the cooldown by wall clock.
"""

from __future__ import annotations

from collections.abc import Callable

import pybreaker

from pixel_llm.policy import CircuitBreakerConfig
from pixel_llm.resilience.breaker.state import CircuitState

_STATES = {
    pybreaker.STATE_CLOSED: CircuitState.CLOSED,
    pybreaker.STATE_OPEN: CircuitState.OPEN,
    pybreaker.STATE_HALF_OPEN: CircuitState.HALF_OPEN,
}

_NEVER = 2**63  # more failures in a row than there will ever be


class Machine(pybreaker.CircuitBreakerListener):
    """
    Counts failures and trials in a row, and changes the state by them. Not safe for concurrent use.

    Args:
        name: What the engine calls it.
        config: Its thresholds.
        on_change: Called with each change as it happens: the old state and the new one.
    """

    def __init__(
        self, name: str, config: CircuitBreakerConfig, on_change: Callable[[CircuitState, CircuitState], None]
    ) -> None:
        self._on_change = on_change
        self._storage = pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
        self._engine = pybreaker.CircuitBreaker(
            fail_max=_NEVER if config.failure_threshold is None else config.failure_threshold,
            success_threshold=config.success_threshold,
            state_storage=self._storage,
            listeners=[self],
            throw_new_error_on_trip=False,
            name=name,
        )

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return int(self._storage.counter)

    def forget_failures(self) -> None:
        """Begin to count failures anew."""
        self._storage.reset_counter()

    def fail(self) -> bool:
        """Count a failure; True if it was one too many, and the breaker is open now."""
        self._storage.increment_counter()
        failed = _Failed()
        try:
            self._engine.state.on_failure(failed)
        except _Failed:  # pybreaker raises what it was given when the breaker opens
            failed.__traceback__ = failed.__context__ = None  # it leads to the frame that holds it: a cycle
            return True
        return False

    def pass_trial(self) -> None:
        """Count a trial that succeeded; enough of them close the breaker."""
        self._engine.state.on_success()

    def open(self) -> None:
        """Open the breaker."""
        self._engine.open()

    def half_open(self) -> None:
        """Let trials begin."""
        self._engine.half_open()

    def close(self) -> None:
        """Close the breaker."""
        self._engine.close()

    def state_change(self, cb: object, old_state: object, new_state: object) -> None:
        """Pybreaker's word that the state has changed."""
        self._on_change(_STATES[getattr(old_state, "name", "")], _STATES[getattr(new_state, "name", "")])


class _Failed(Exception):
    """What pybreaker is told of every failure, so that it can't write into the traceback of the real one."""
