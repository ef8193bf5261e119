"""The policies whose metrics one meter gives."""

from __future__ import annotations

import time
import weakref

from pixel_llm.monitoring.snapshot.merging import merged
from pixel_llm.monitoring.snapshot.model import Snapshot
from pixel_llm.runtime import Policies

#: Seconds for which instruments share what was read, if none of them asks twice.
_SHARED_FOR = 1.0


class _Reading:
    """What was read, when, and for which instruments."""

    __slots__ = ("asked", "at", "snapshots")

    def __init__(self, snapshots: tuple[Snapshot, ...]) -> None:
        self.at = time.monotonic()
        self.snapshots = snapshots
        self.asked: set[str] = set()


class Watched:
    """
    Policies that are read when a meter collects; it does not keep them alive. Safe for concurrent use.

    A meter asks each instrument by itself. They share one look at the stacks, which is taken anew when an instrument
    asks a second time, since that is another collection. There is no lock, which a forked child might find held: at
    worst, two collections at once look more often.
    """

    def __init__(self) -> None:
        # Never changed in place: it is read without a lock.
        self._policies: tuple[weakref.ref[Policies], ...] = ()
        self._reading: _Reading | None = None

    def add(self, policies: Policies) -> None:
        """Read *policies*, too. Called by one thread at a time, as is :meth:`remove`."""
        self._policies, self._reading = (*self._without(policies), weakref.ref(policies)), None

    def remove(self, policies: Policies) -> None:
        """Read *policies* no longer."""
        self._policies, self._reading = self._without(policies), None

    def snapshots(self, instrument: str) -> tuple[Snapshot, ...]:
        """What *instrument*, by its name, is to tell: a snapshot for each profile, in this collection."""
        reading = self._reading
        if reading is None or instrument in reading.asked or time.monotonic() - reading.at > _SHARED_FOR:
            known = [policies for reference in self._policies if (policies := reference()) is not None]
            reading = self._reading = _Reading(merged(policies.snapshot() for policies in known))
        reading.asked.add(instrument)
        return reading.snapshots

    def _without(self, policies: Policies) -> tuple[weakref.ref[Policies], ...]:
        return tuple(reference for reference in self._policies if reference() not in (None, policies))
