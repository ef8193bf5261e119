"""Whose snapshots are shown: the policies of this process, or those of another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

from pixel_llm.errors import ValidationError
from pixel_llm.monitoring.snapshot.model import Snapshot


class HasSnapshot(Protocol):
    """What can be asked for a snapshot, as :class:`pixel_llm.Policies` can. Must be safe for concurrent use."""

    def snapshot(self) -> Snapshot:
        """All that it knows now."""


#: Gives the snapshots of a process, one for each of its policies.
ReadSnapshots: TypeAlias = Callable[[], tuple[Snapshot, ...]]


def snapshots_of(policies: HasSnapshot | Iterable[HasSnapshot]) -> ReadSnapshots:
    """
    A function that gives the snapshots of *policies*, which may be several. What is there twice counts once.

    Raises:
        ValidationError: If there are none, or something else is among them.
    """
    several = tuple(policies) if isinstance(policies, Iterable) else (policies,)
    if not several or not all(callable(getattr(one, "snapshot", None)) for one in several):
        raise ValidationError(f"metrics are those of policies: pass what load_policies() gives (got {policies!r})")
    once = tuple({id(one): one for one in several}.values())
    return lambda: tuple(one.snapshot() for one in once)
