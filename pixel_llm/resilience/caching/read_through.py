"""
The read-through cache: a fresh result is given without a call, and equal calls at once make one.

It stands between fallback and retry. Only what the call itself has returned is kept; what a
fallback served never is. :mod:`pixel_llm.resilience.caching.single_flight` has equal callers wait for one.
"""

from __future__ import annotations

import builtins
import contextlib
from asyncio import _get_running_loop
from typing import TYPE_CHECKING, Any

from pixel_llm.policy import CacheConfig
from pixel_llm.resilience.caching.cache import LazyCache, ResultCache, is_used_up
from pixel_llm.resilience.caching.single_flight import FlightState, SingleFlight, Ticket
from pixel_llm.resilience.call import Call
from pixel_llm.resilience.clock import Clock
from pixel_llm.resilience.counters import Counters
from pixel_llm.resilience.outcome import SERVED_BY_CACHE_HIT, SERVED_BY_SHARED_CALL

if TYPE_CHECKING:
    from pixel_llm.resilience.roads.async_guard import AsyncRoad
    from pixel_llm.resilience.roads.sync_guard import SyncRoad

#: What stacks count, beside their events.
CACHE_MISS = "cache_miss"

#: Timers of event loops may fire this many seconds early.
_MOMENT = 1e-3


class ReadThrough:
    """
    The compiled `cache` section of one target. Safe for concurrent use, by threads and tasks of any event loop.

    What it keeps results in is made when the first call comes.
    """

    __slots__ = ("_cache", "_clock", "_counters", "_flights")

    def __init__(self, config: CacheConfig, *, clock: Clock, counters: Counters) -> None:
        self._cache = LazyCache(config, clock)
        self._clock = clock
        self._counters = counters
        self._flights: dict[str, SingleFlight] = {}

    @property
    def cache(self) -> ResultCache:
        """The results."""
        return self._cache.get()

    @property
    def flights(self) -> SingleFlight:
        """The calls under way."""
        # setdefault() is atomic, so that two threads get the same one.
        return self._flights.get("") or self._flights.setdefault("", SingleFlight())

    def find(self, call: Call) -> tuple[Any] | None:
        """The value, in a tuple, that is kept for *call*; None if there is no fresh one."""
        found = self.cache.get(call.key)
        if found is None:
            return None
        return (self._served(call, found.value, SERVED_BY_CACHE_HIT),)

    def begin(self, call: Call, ticket: Ticket, *, waited: bool) -> tuple[Any] | None:
        """*call* leads: the value, in a tuple, should it be there by now; else it is made."""
        # Another flight may have landed between the look into the cache and the beginning of this one.
        found = self.find(call)
        if found is not None:
            ticket.land(found[0])
            return found
        self._counters.count(CACHE_MISS)
        call.ticket = ticket
        if waited:
            call.attempt_started, call.queued = self._clock.monotonic(), True
        return None

    def shared(self, call: Call, ticket: Ticket) -> Any:
        """The value that another caller's call has brought."""
        return self._served(call, ticket.value, SERVED_BY_SHARED_CALL)

    def _served(self, call: Call, value: Any, served_by: str) -> Any:
        call.served_by = served_by
        self._counters.count(served_by)
        self._counters.record_success(self._clock.monotonic() - call.started)
        return value


def tell_followers(call: Call, error: Exception, now: float) -> None:
    """*call*, which leads, has failed for good of *error*, at the moment *now*."""
    ticket = call.ticket
    if ticket is None:
        return
    if isinstance(error, builtins.TimeoutError) and now >= call.deadline - _MOMENT:
        ticket.leave()  # its own time was up, which says nothing of theirs
    else:
        ticket.fail(error)


def run(road: SyncRoad, layer: ReadThrough, call: Call) -> Any:
    """Carry *call* to its end, in the sync world."""
    found = layer.find(call)
    if found is not None:
        return found[0]
    # Whoever waits in the thread of an event loop stops it, and with it the leader, should that be a task of it.
    ticket = layer.flights.join(call.key, may_wait=_get_running_loop() is None)
    try:
        follows = not ticket.leads
        if follows:
            ticket.wait(call.deadline, road.stack.clock)
        if ticket.leads:
            if (found := layer.begin(call, ticket, waited=follows)) is not None:
                return found[0]
            with ticket.inside():
                value = road.run(call)
            if call.error is None and not is_used_up(value):
                ticket.land(value)
            return value
        if ticket.state is FlightState.LANDED:
            return layer.shared(call, ticket)
        return road.give_up(call, *_why(road.stack, call, ticket))
    finally:
        ticket.leave()


async def run_async(road: AsyncRoad, layer: ReadThrough, call: Call) -> Any:
    """Carry *call* to its end, in the async world."""
    found = layer.find(call)
    if found is not None:
        return found[0]
    ticket = layer.flights.join(call.key)
    try:
        follows = not ticket.leads
        if follows:
            with contextlib.suppress(TimeoutError):  # its state says the same
                await road.stack.wait_async(call, ticket.wait_async(call.deadline, road.stack.clock))
        if ticket.leads:
            if (found := layer.begin(call, ticket, waited=follows)) is not None:
                return found[0]
            with ticket.inside():
                value = await road.run(call)
            if call.error is None and not is_used_up(value):
                ticket.land(value)
            return value
        if ticket.state is FlightState.LANDED:
            return layer.shared(call, ticket)
        return await road.give_up(call, *_why(road.stack, call, ticket))
    finally:
        ticket.leave()


def _why(stack: Any, call: Call, ticket: Ticket) -> tuple[Exception, str]:
    """What a follower that got no value has failed of, and that in words."""
    if ticket.error is not None:
        return ticket.error, "the equal call that it waited for has failed"
    return stack.timing.out_of_time(call.terms), "the deadline has passed"
