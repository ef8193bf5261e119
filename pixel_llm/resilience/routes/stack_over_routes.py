"""
The layers of a target whose calls can go to several places::

    deadline → fallback → cache → retry → hedge → endpoints
                                                   ├ first:  circuit_breaker → rate_limit → bulkhead → timeout → call
                                                   └ second: circuit_breaker → rate_limit → bulkhead → timeout → call

One attempt of the upper stack is a pass over the places, see :mod:`pixel_llm.resilience.routes.passing`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from pixel_llm.policy.over_routes import at_route, over_routes
from pixel_llm.resilience.breaker.circuit_breaker import CircuitBreaker
from pixel_llm.resilience.breaker.keys import BreakerKey, FindGate
from pixel_llm.resilience.breaker.no_breaker import NO_SHORT_ROAD
from pixel_llm.resilience.call import Call
from pixel_llm.resilience.description import Layer, describe
from pixel_llm.resilience.routes.gate import RoutesGate
from pixel_llm.resilience.stack import Stack

_lock = threading.Lock()


class StackOverRoutes(Stack):
    """
    The layers around all places; it makes those of each place. Safe for concurrent use.

    Args:
        whole: The target's stack. Its counters, cache and budget serve here too.
        before: The one until now, if the policy was loaded again.
    """

    def __init__(self, whole: Stack, before: StackOverRoutes | None = None) -> None:
        self.whole = whole
        super().__init__(
            whole.target,
            over_routes(whole.policy),
            clock=whole.clock,
            emit=whole.listener,
            find_function=whole.find_function,
            wrapped=whole.wrapped,
            budgets=whole.budgets,
            before=whole,
            tracer=whole.tracer,
        )
        #: The stacks of the places, by name.
        self.routes: dict[str, Stack] = {}
        self.breaker, self.breakers = None, None
        self.gate = NO_SHORT_ROAD if self.policy.circuit_breaker is None else RoutesGate(self._breakers)
        if before is not None:
            self.routes |= {name: self._make(name, route) for name, route in before.routes.items()}

    def route(self, name: str) -> Stack:
        """The stack of one place, made when it is first asked for."""
        known = self.routes.get(name)
        return known if known is not None else self.routes.setdefault(name, self._make(name))

    def under(self, whole: Stack) -> StackOverRoutes:
        """The same over the same places, for the target's new stack."""
        return StackOverRoutes(whole, self)

    def take_queues(self, before: Stack) -> None:
        """Go on with the queues of the places of *before*; see :meth:`Stack.take_queues`."""
        assert isinstance(before, StackOverRoutes)  # noqa: S101 - they are taken from one of the same target
        for name, route in before.routes.items():
            self.route(name).take_queues(route)

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any], key: Any, started: float) -> Call:
        """A call that keeps a list of whom it has really asked."""
        call = super().begin(args, kwargs, key, started)
        call.note_who_is_asked()
        return call

    def alternative(self, index: int) -> Stack:
        """The stack of a fallback step that calls elsewhere: it has all layers of the whole, and is no route."""
        return self.whole.alternative(index)

    def find_breaker(self, breaker_key: BreakerKey | None, function: Callable[..., Any]) -> FindGate | None:
        """A function that gives what a call passes, where each place has breakers by key."""
        finders = [route.find_breaker(breaker_key, function) for route in self.routes.values()]
        found = [finder for finder in finders if finder is not None]
        if not found:
            return None
        return lambda args, kwargs: RoutesGate(lambda: [find(args, kwargs) for find in found])

    def breakers_by_place(self) -> dict[Hashable, CircuitBreaker]:
        """The breakers that there are by now: by place, or by place and key where each place has several."""
        found: dict[Hashable, CircuitBreaker] = {}
        for name, route in self.routes.items():
            if route.breaker is not None:
                found[name] = route.breaker
            elif route.breakers is not None:
                found |= {(name, key): breaker for key, breaker in route.breakers.items()}
        return found

    def describe(self) -> tuple[Layer, ...]:
        """The layers around all places, the places, then the layers that each of them has; the call itself last."""
        above = [layer for layer in describe(self.policy) if layer.name not in ("circuit_breaker", "call")]
        places = Layer("endpoints", {"endpoints": list(self.routes)})
        return (*above, places, *describe(at_route(self.whole.policy)))

    def _breakers(self) -> Iterator[CircuitBreaker]:
        return (route.breaker for route in list(self.routes.values()) if route.breaker is not None)

    def _make(self, name: str, before: Stack | None = None) -> Stack:
        return Stack(
            f"{self.target}[endpoint={name}]",
            at_route(self.whole.policy),
            is_checked=True,
            clock=self.clock,
            emit=self.listener,
            find_function=self.find_function,
            before=before,
            tracer=self.tracer,
        )


def stack_over_routes(whole: Stack) -> StackOverRoutes:
    """The layers of *whole* around several places, made when they are first needed."""
    with _lock:
        if whole.over_routes is None:
            whole.over_routes = StackOverRoutes(whole)
        made: StackOverRoutes = whole.over_routes
        return made
