"""What a program has wrapped, by target: a fallback that names another target calls it there."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from pixel_llm.policy import FallbackStrategy, PolicyConfig


def fallback_targets(config: PolicyConfig) -> set[str]:
    """The targets that fallbacks of *config* name."""
    steps = (step for target in config.targets.values() for step in target.fallback or ())
    return {step.value for step in steps if step.strategy is FallbackStrategy.TARGET}


class WrappedTargets:
    """
    The guarded callables of the targets that fallbacks name. Safe for concurrent use.

    Of several callables of one target the one that was wrapped last is kept; a sync and an async one are two.
    What no fallback names is not kept.
    """

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = frozenset(names)
        self._callables: dict[tuple[str, bool], Callable[..., Any]] = {}

    def record(self, target: str, guarded: Callable[..., Any], *, is_async: bool) -> None:
        """Note that *target* was wrapped."""
        if target in self._names:
            self._callables[target, is_async] = guarded

    def find(self, target: str, *, is_async: bool) -> Callable[..., Any] | None:
        """The guarded callable of *target* in one of the worlds."""
        return self._callables.get((target, is_async))
