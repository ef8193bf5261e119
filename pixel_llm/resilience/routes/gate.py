"""What a call passes in a breaker's place where each route has its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from pixel_llm.errors import CircuitBreakerOpen
from pixel_llm.resilience.breaker.circuit_breaker import CircuitBreaker
from pixel_llm.resilience.breaker.no_breaker import NoBreaker


class RoutesGate(NoBreaker):
    """
    Refuses while the breaker of every route does; each route's breaker counts for itself.

    Args:
        breakers: Gives the breakers of the routes at this moment.
    """

    def __init__(self, breakers: Callable[[], Iterable[CircuitBreaker | NoBreaker]]) -> None:
        super().__init__(-1)
        self._breakers = breakers

    def check(self) -> None:
        """
        Ask whether a call would be admitted anywhere, taking no permit.

        Raises:
            CircuitBreakerOpen: That of the route that lets a call through soonest.
        """
        refusals: list[CircuitBreakerOpen] = []
        for breaker in self._breakers():
            try:
                breaker.check()
            except CircuitBreakerOpen as refusal:
                refusals.append(refusal)
            else:
                return
        raise min(refusals, key=_wait)

    def acquire(self) -> int:
        """The same; the permit is for nothing."""
        self.check()
        return 0

    def would_refuse(self) -> bool:
        """True while all of them are open."""
        return all(breaker.would_refuse() for breaker in self._breakers())

    def retry_after(self) -> float:
        """Seconds until the first of them lets a trial through."""
        return min((breaker.retry_after() for breaker in self._breakers()), default=0.0)


def _wait(refusal: CircuitBreakerOpen) -> float:
    return inf if refusal.retry_after is None else refusal.retry_after
