"""What a model is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridConfig:
    """
    What a :class:`HybridPixelLLM` is built from, to build the same one elsewhere. Immutable; pickles.

    A model holds sockets and threads, so it can't be pickled; hand its ``config`` to the other process, and build one
    there with :meth:`HybridPixelLLM.from_config`. Environment variables are read there, too.

    Attributes:
        profile: The profile's name, or None as the argument has it.
        policies: The folder of policies, or None as the argument has it.
        error_config: Sections laid over the profile, or None.
    """

    profile: str | None = None
    policies: str | Path | None = None
    error_config: Mapping[str, Any] | None = None
