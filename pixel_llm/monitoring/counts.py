"""Counting by key: exact under threads, and safe wherever the garbage collector runs a finaliser."""

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
        return {key: int(repr(counter)[6:-1]) for key, counter in self._counters.copy().items()}
