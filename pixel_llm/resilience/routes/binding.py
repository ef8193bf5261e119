"""How a callable with routes is bound to a stack: to the layers around all places, and to those of each place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pixel_llm.resilience.roads import async_guard, sync_guard
from pixel_llm.resilience.roads.options import GuardOptions
from pixel_llm.resilience.routes.following import follow, follow_async, follow_stream, follow_stream_async
from pixel_llm.resilience.routes.passing import Place, Places
from pixel_llm.resilience.routes.stack_over_routes import stack_over_routes
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.streams import async_stream_road, sync_stream_road

#: The guard of one place, and the loop over all of them: of calls and of streams, in threads and in tasks.
_WAYS: dict[tuple[bool, bool], tuple[Callable[..., Any], Callable[..., Any]]] = {
    (False, False): (sync_guard.guard_alone, follow),
    (False, True): (async_guard.guard_alone, follow_async),
    (True, False): (sync_stream_road.guard_alone, follow_stream),
    (True, True): (async_stream_road.guard_alone, follow_stream_async),
}


def over_places(
    stack: Stack, function: Callable[..., Any], options: GuardOptions, *, stream: bool, is_async: bool
) -> tuple[Stack, Callable[..., Any]]:
    """The stack that is around *function*, and what it calls: where *options* name routes, a pass over them."""
    routes = options.routes
    if routes is None:
        return stack, function
    above = stack_over_routes(stack)
    guard, follow_them = _WAYS[stream, is_async]
    own = GuardOptions(cooperative=options.cooperative, breaker_key=options.breaker_key)
    places: dict[str, Place] = {}
    for name, called in routes.functions.items():
        route = above.route(name)
        find_breaker = route.find_breaker(options.breaker_key, function)
        places[name] = Place(name, route, guard(route, called, own), find_breaker)
    idempotent = stack.policy.idempotent is not False
    return above, follow_them(function, Places(places, routes.guide, idempotent=idempotent))
