"""Every pair of layers is played in both worlds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pair_play import Play, playing


@pytest.fixture(params=["sync", "async"])
def play(request: pytest.FixtureRequest) -> Iterator[Callable[..., Play]]:
    """Makes a :class:`Play` of the case's world."""
    with playing(request.param) as make:
        yield make
