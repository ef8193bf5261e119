"""Which test holds which pair of layers, and the layers that there are."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from pixel_llm.policy import TargetPolicy

#: What a target can say of itself that is no layer.
NOT_LAYERS = frozenset({"idempotent"})

#: A callable that gives its result piece by piece: no layer, but it means something for each of them.
STREAM = "stream"

#: The fixtures that run a test in both worlds.
BOTH_WORLDS = frozenset({"play", "streams"})


def pair(outer: str, inner: str) -> Callable[[Any], Any]:
    """Marks a test that says what *outer* means for *inner*, and the other way round."""

    def mark(test: Any) -> Any:
        test.pairs = (*getattr(test, "pairs", ()), (outer, inner))
        return test

    return mark


def layers() -> list[str]:
    """The layers that a target can have, outermost first."""
    return [field.name for field in fields(TargetPolicy) if field.name not in NOT_LAYERS]


def pairs() -> list[tuple[str, str]]:
    """Every two layers, the outer one first; and every layer with streams, which pass them all."""
    return [*itertools.combinations(layers(), 2), *((layer, STREAM) for layer in layers())]


def held_by() -> dict[tuple[str, str], list[Any]]:
    """The tests of each pair that has some."""
    found: dict[tuple[str, str], list[Any]] = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(path.stem)
        for test in vars(module).values():
            for pair in getattr(test, "pairs", ()):
                found.setdefault(pair, []).append(test)
    return found
