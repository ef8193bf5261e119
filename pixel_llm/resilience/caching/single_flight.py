"""
One call for many that are equal and under way at once, across threads and event loops.

The first caller of a key leads: it makes the call. Those that come while it is under way follow:
they wait for what it brings. Who waits in a thread and who waits in a task, of whatever loop,
is all the same to a flight.

A leader that gives up for reasons of its own, because it was cancelled or its own deadline has
passed, takes nobody down: the follower that has waited longest leads on.

Nobody waits who is waited for: a call that is made inside of a leader's never follows, but makes its own
attempt. That is known by the context (:mod:`contextvars`) in which it is made. So no ring of calls can wait for each
other, unless a leader hands a call to a thread without its context (a plain ThreadPoolExecutor does) and waits for it:
nothing tells such a call from anybody else's, and it waits until its deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from enum import Enum, auto
from math import inf
from typing import Any

from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock
from pixel_llm.resilience.threads.forking import forget_after_fork


class FlightState(Enum):
    """What a ticket is good for."""

    #: Somebody else makes the call.
    WAITING = auto()
    #: The holder makes the call.
    LEADING = auto()
    #: The call has brought a value.
    LANDED = auto()
    #: The call has failed, and would have for every holder.
    FAILED = auto()
    #: The holder has left.
    LEFT = auto()


#: The flights whose calls this thread or task is inside of: whoever waits for them must not wait for others.
_inside: ContextVar[tuple[object, ...]] = ContextVar("pixel_llm_flights", default=())


class _Flight:
    """One call under way, and who waits for it. Guarded by the lock of its :class:`SingleFlight`."""

    __slots__ = ("key", "waiting")

    def __init__(self, key: Any) -> None:
        self.key = key
        self.waiting: deque[Ticket] = deque()


class Ticket:
    """
    One caller's part in a flight. Belongs to one thread or task; leave it exactly when the call is over.

    Attributes:
        state: See :class:`FlightState`. It changes while the holder waits, never else but by what it does itself.
        value: What the call has brought, if it has landed.
        error: What it has failed of, if it has failed.
    """

    __slots__ = ("_flight", "_flights", "_wake", "error", "state", "value")

    def __init__(self, flights: SingleFlight) -> None:
        self.state = FlightState.WAITING
        self.value: Any = None
        self.error: Exception | None = None
        self._flights = flights
        self._flight: _Flight | None = None
        self._wake: Callable[[], object] | None = None

    @property
    def leads(self) -> bool:
        """True if the holder makes the call."""
        return self.state is FlightState.LEADING

    def land(self, value: Any) -> None:
        """The leader's call has brought *value*: give it to all that follow."""
        self._flights.end(self, FlightState.LANDED, value, None)

    def fail(self, error: Exception) -> None:
        """The leader's call has failed of *error*, as it would have for those that follow."""
        self._flights.end(self, FlightState.FAILED, None, error)

    def leave(self) -> None:
        """Have no more to do with it, for whatever reason. If the holder leads, the next one leads on."""
        self._flights.leave(self)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """While this lasts, what the leader's call calls does not follow anybody."""
        token = _inside.set((*_inside.get(), self._flight))
        try:
            yield
        finally:
            # A coroutine that nobody awaits any more is closed in another context.
            with contextlib.suppress(ValueError):
                _inside.reset(token)

    def wait(self, until: float, clock: Clock = SYSTEM_CLOCK) -> FlightState:
        """Wait, in a thread, until the state is no longer WAITING, or the moment *until* of *clock* has come."""
        woken = threading.Event()
        self._flights.watch(self, woken.set)
        while self.state is FlightState.WAITING and (remaining := until - clock.monotonic()) > 0:
            woken.wait(None if remaining == inf else clock.patience(remaining))
        return self.state

    async def wait_async(self, until: float, clock: Clock = SYSTEM_CLOCK) -> FlightState:
        """:meth:`wait`, in a task."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        self._flights.watch(self, lambda: loop.call_soon_threadsafe(_settle, woken))
        while self.state is FlightState.WAITING and (remaining := until - clock.monotonic()) > 0:
            await asyncio.wait([woken], timeout=None if remaining == inf else clock.patience(remaining))
        return self.state


class SingleFlight:
    """
    The flights under way, by key. Safe for concurrent use, by threads and by tasks of any event loop.

    Its lock is held for a few operations at a time, never while a call runs or a caller waits.
    """

    __slots__ = ("__weakref__", "_lock", "_under_way")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Any, _Flight] = {}
        forget_after_fork(self)

    def __len__(self) -> int:
        return len(self._under_way)

    def forget(self) -> None:
        """Forget, in a forked child, what its parent has under way: nothing here would ever end it."""
        self._lock = threading.Lock()
        self._under_way = {}

    def join(self, key: Any, *, may_wait: bool = True) -> Ticket:
        """
        Take part in the call of *key*, which must be hashable, or make another one if it may not wait.

        Returns:
            A ticket: lead, if it says so, else wait. In any case leave it in the end.
        """
        ticket = Ticket(self)
        with self._lock:
            flight = self._under_way.get(key)
            if flight is not None and may_wait and not _inside.get():
                ticket._flight = flight
                flight.waiting.append(ticket)
                return ticket
            ticket.state = FlightState.LEADING
            ticket._flight = _Flight(key)
            if flight is None:
                self._under_way[key] = ticket._flight
            # Else this caller must not wait: it makes a call of its own, and nobody follows it.
        return ticket

    def watch(self, ticket: Ticket, wake: Callable[[], object]) -> None:
        """Call *wake* when the state of *ticket* changes; at once if it is no longer waiting."""
        with self._lock:
            ticket._wake = wake
            waiting = ticket.state is FlightState.WAITING
        if not waiting:
            wake()

    def end(self, ticket: Ticket, state: FlightState, value: Any, error: Exception | None) -> None:
        """End the flight that *ticket* leads; without effect if it doesn't, any more."""
        with self._lock:
            flight = ticket._flight
            if flight is None or ticket.state is not FlightState.LEADING:
                return
            ticket.state, ticket._flight = state, None
            self._remove(flight)
            followers = list(flight.waiting)
            flight.waiting.clear()
            for follower in followers:
                follower.state, follower.value, follower.error, follower._flight = state, value, error, None
        for follower in followers:
            _wake(follower)

    def leave(self, ticket: Ticket) -> None:
        """Take *ticket* out. If it leads, the follower that has waited longest leads on."""
        while True:
            with self._lock:
                flight, led = ticket._flight, ticket.state is FlightState.LEADING
                ticket._flight = ticket._wake = ticket.error = ticket.value = None
                ticket.state = FlightState.LEFT
                if flight is None:
                    return
                if not led:
                    flight.waiting.remove(ticket)
                    return
                if not flight.waiting:
                    self._remove(flight)
                    return
                follower = flight.waiting.popleft()
                follower.state = FlightState.LEADING
            if _wake(follower):
                return
            ticket = follower  # its event loop is closed: nobody will ever hear of it

    def _remove(self, flight: _Flight) -> None:
        if self._under_way.get(flight.key) is flight:
            del self._under_way[flight.key]


def _settle(woken: asyncio.Future[None]) -> None:
    # A leader in another thread may wake who has just seen by itself that there is nothing to wait for.
    if not woken.done():
        woken.set_result(None)


def _wake(ticket: Ticket) -> bool:
    """Tell the holder of *ticket* that its state has changed; False if it can no longer be told."""
    wake = ticket._wake
    if wake is None:  # it has yet to wait, and looks at the state first
        return True
    try:
        wake()
    except RuntimeError:  # the event loop is closed
        return False
    return True
