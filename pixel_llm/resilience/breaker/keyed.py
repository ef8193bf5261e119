"""A circuit breaker for each key of a target, such as each model: so many at most."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from pixel_llm.resilience.breaker.circuit_breaker import CircuitBreaker
from pixel_llm.resilience.breaker.state import CircuitState
from pixel_llm.resilience.threads.forking import forget_after_fork


class KeyedBreakers:
    """
    The breakers of one target, made when their key is first called. Safe for concurrent use.

    Where one more would be one too many, the closed one that was used longest ago is forgotten, failures
    and all: what is open stays, since it holds calls back. Only if all are open or half open, the one used
    longest ago goes. Calls under way keep their breaker to their end.

    Args:
        make: Makes the breaker of a key.
        max_keys: How many there are at most.
    """

    def __init__(self, make: Callable[[Hashable], CircuitBreaker], max_keys: int) -> None:
        self._make = make
        self._max_keys = max_keys
        self._breakers: OrderedDict[Hashable, CircuitBreaker] = OrderedDict()  # used longest ago first
        self._lock = threading.Lock()
        forget_after_fork(self)

    def forget(self) -> None:
        """In a forked child: what a thread of the parent held is never given back."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._breakers)

    def get(self, key: Hashable) -> CircuitBreaker:
        """
        The breaker of *key*, used now.

        Raises:
            TypeError: If *key* can't be hashed.
        """
        with self._lock:
            breaker = self._breakers.get(key)
            if breaker is not None:
                self._breakers.move_to_end(key)
                return breaker
            if len(self._breakers) >= self._max_keys:
                self._forget_one()
            breaker = self._breakers[key] = self._make(key)
            return breaker

    def items(self) -> list[tuple[Hashable, CircuitBreaker]]:
        """All keys and their breakers at this moment, the one used longest ago first."""
        with self._lock:
            return list(self._breakers.items())

    def _forget_one(self) -> None:
        closed = (key for key, breaker in self._breakers.items() if breaker.state is CircuitState.CLOSED)
        del self._breakers[next(closed, next(iter(self._breakers)))]
