"""What has changed when a policy was loaded again."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pixel_llm.policy import LoadedPolicy

#: Sections that are used up when a model is made.
_USED_ONCE = ("lm_studio", "encoder")


@dataclass(frozen=True, slots=True)
class Reloaded:
    """
    What has changed. Immutable.

    Attributes:
        targets: The targets whose layers are others now, or that are new or gone.
        restart: The sections that have changed but only count for models that are made from now on.
    """

    targets: tuple[str, ...]
    restart: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.targets or self.restart)


def compare(before: LoadedPolicy, after: LoadedPolicy) -> Reloaded:
    """What has changed between two states of a policy."""
    old, new = before.config, after.config
    names = [*old.targets, *(name for name in new.targets if name not in old.targets)]
    targets = tuple(name for name in names if old.targets.get(name) != new.targets.get(name))
    restart = tuple(
        field.name
        for field in fields(new)
        if field.name in _USED_ONCE and getattr(old, field.name) != getattr(new, field.name)
    )
    return Reloaded(targets, restart)
