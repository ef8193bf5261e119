"""Counts by key and the highest of numbers: exact under threads, safe where a garbage collector runs a finaliser."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Counts(Generic[K]):
    """
    Counts by key, without a lock. Safe for concurrent use.

    Events may be told by a finaliser, in a thread that is in here already: it would wait for its own lock. One step
    of an :class:`itertools.count` is a single operation of the interpreter.
    """

    __slots__ = ("_counters",)

    def __init__(self) -> None:
        self._counters: dict[K, Iterator[int]] = {}

    def add(self, key: K) -> None:
        """Count *key* once more."""
        counter = self._counters.get(key)
        if counter is None:  # setdefault() is atomic, so that two threads get the same counter
            counter = self._counters.setdefault(key, itertools.count())
        next(counter)

    def read(self) -> dict[K, int]:
        """All counts so far, in the order in which their keys came first."""
        if not self._counters:  # most have nothing to count
            return {}
        return {key: int(repr(counter)[6:-1]) for key, counter in self._counters.copy().items()}


class Peak:
    """The highest of some numbers from 0 on, without a lock. Safe for concurrent use; see :class:`Counts`."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, None] = {0: None}

    def raised_to(self, number: int) -> int:
        """The highest so far, *number* included: never less than what a call gave that ended before this one began."""
        known = self._known
        if number in known and len(known) == 1:  # nothing has happened since
            return number
        known[number] = None
        highest = max(known.copy())
        # Whoever takes a number out has seen a higher one, and so has whoever took that out: the highest stays.
        for lower in [one for one in known.copy() if one < highest]:
            known.pop(lower, None)
        return highest
