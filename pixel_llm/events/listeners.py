"""Telling listeners, so that none of them can harm the call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from pixel_llm.events.trouble import report_trouble
from pixel_llm.events.types import Event

#: Takes an event and returns nothing. It runs in the thread or task of the call, so it must not block: one that does
#: holds up its call, past its deadline if need be, and with a task all of its event loop, but no other thread.
Listener = Callable[[Event], None]


class Listeners:
    """
    The listeners of one set of stacks, called in the order they were added.

    One that raises is reported once, to the logger ``pixel_llm``, and the call goes on.
    Safe for concurrent use.
    """

    def __init__(self, listeners: Iterable[Listener] = ()) -> None:
        self._listeners: tuple[Listener, ...] = tuple(listeners)
        self._reported: set[int] = set()
        self._lock = threading.Lock()

    def add(self, listener: Listener, *, first: bool = False) -> None:
        """Add *listener* after the others, or as the *first*; one that is there already stays where it is."""
        with self._lock:
            if any(one is listener for one in self._listeners):
                return
            self._listeners = (listener, *self._listeners) if first else (*self._listeners, listener)

    def replace(self, listener: Listener, other: Listener) -> None:
        """Put *other* where *listener* stands."""
        with self._lock:
            self._listeners = tuple(other if one is listener else one for one in self._listeners)

    def __call__(self, event: Event) -> None:
        """Tell every listener."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - whatever a listener does, the call goes on
                self._report(listener)

    def _report(self, listener: Listener) -> None:
        with self._lock:
            known = id(listener) in self._reported
            self._reported.add(id(listener))
        if not known:
            report_trouble("the listener %r raised; this is reported once", listener)
