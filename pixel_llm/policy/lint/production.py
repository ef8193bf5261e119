"""Which profiles are for production."""

from __future__ import annotations

import re

from pixel_llm.policy.lint.origins import lineage
from pixel_llm.policy.loading import LoadedPolicy

_PRODUCTION = re.compile(r"(?<![a-z])prod(uction)?(?![a-z])", re.IGNORECASE)


def in_production(loaded: LoadedPolicy) -> str | None:
    """What the profile is called in messages if it, or one that it builds on, is for production."""
    names = [loaded.profile, *sorted(file.stem for file in lineage(loaded, loaded.file))]
    production = next((name for name in names if _PRODUCTION.search(name)), None)
    if production is None:
        return None
    return loaded.profile if production == loaded.profile else f"{loaded.profile} builds on {production} but"
