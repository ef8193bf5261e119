"""Policies whose stacks count successes themselves: what they have counted since the last look."""

from __future__ import annotations

import weakref

from pixel_llm.monitoring.health import is_place
from pixel_llm.monitoring.sources import HasSnapshot


class Watched:
    """
    One set of policies. It isn't kept alive. Not safe for concurrent use.

    Args:
        policies: Whose targets are watched from now on. Places of a target are not: their calls are the target's.
        now: This moment.
    """

    def __init__(self, policies: HasSnapshot, now: float) -> None:
        self._policies = weakref.ref(policies)
        self._seen: dict[str, tuple[int, ...]] = {}
        self.looked_at = now
        self.unseen()

    def is_of(self, policies: HasSnapshot) -> bool:
        """True if it watches *policies*."""
        return self._policies() is policies

    @property
    def is_gone(self) -> bool:
        """True once nobody uses the policies any more."""
        return self._policies() is None

    def unseen(self) -> list[int]:
        """How many calls have succeeded since the last look, by bucket of their latency."""
        policies = self._policies()
        total: list[int] = []
        if policies is None:
            return total
        for name, target in policies.snapshot().targets.items():
            if is_place(name):
                continue
            counts, before = target.latency.counts, self._seen.get(name, ())
            self._seen[name] = counts
            if sum(before) > sum(counts) or not before:  # begun anew, as after a policy was loaded again
                before = (0,) * len(counts)
            total = total or [0] * len(counts)
            for index, (now, then) in enumerate(zip(counts, before, strict=True)):
                total[index] += now - then
        return total
