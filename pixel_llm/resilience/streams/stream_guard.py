"""The guard of a function whose calls give streams, of either world."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn

from pixel_llm.errors import ValidationError
from pixel_llm.resilience.roads.binding import Binding, Road


def guard_stream(function: Callable[..., Any], binding: Binding, *, is_async: bool) -> Callable[..., Any]:
    """The guard of a *function* that gives streams: each takes the road that *binding* puts the guard on by then."""
    road: Road

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return road.go(args, kwargs, 0.0)

    def outcome(*args: Any, **kwargs: Any) -> NoReturn:
        raise ValidationError(
            "how a stream came about is known when it has ended: ask the stream itself, stream.outcome()"
        )

    def switch(to: Road) -> None:
        nonlocal road
        road = to

    binding.connect(switch)
    guarded.outcome = outcome  # type: ignore[attr-defined]
    guarded.binding = binding  # type: ignore[attr-defined]
    guarded.is_async_stream = is_async  # type: ignore[attr-defined]  # for whoever guards the guard
    return guarded


class StreamOffRoad(Road):
    """
    The way to a stream that no layer is around.

    It is a guarded stream all the same, so that a program finds its methods.

    Args:
        function: What gives the stream.
        make: Makes the road through a stack without layers.
    """

    __slots__ = ("_make",)

    def __init__(self, function: Callable[..., Any], make: Callable[[], Road]) -> None:
        super().__init__(function)
        self._make = functools.cache(make)

    def go(self, args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Any:
        """Give the stream."""
        return self._make().go(args, kwargs, started)
