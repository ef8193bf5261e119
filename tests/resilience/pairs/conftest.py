"""Every pair of layers is played in both worlds."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import pytest
from pair_play import Play, playing
from streaming import AsyncStreams, SyncStreams


@pytest.fixture(params=[("sync", 0), ("sync", 4), ("async", 0)], ids=["sync", "sync-any-order", "async"])
def play(request: pytest.FixtureRequest) -> Iterator[Callable[..., Play]]:
    """Makes a :class:`Play` of the case's world; of the sync one also with threads that change anywhere."""
    world, lines = request.param
    with playing(world, seed=zlib.crc32(request.node.name.encode()), lines=lines) as make:
        yield make


@pytest.fixture(params=[SyncStreams, AsyncStreams], ids=["sync", "async"])
def streams(request: pytest.FixtureRequest) -> SyncStreams | AsyncStreams:
    """The case's world, for streams."""
    world: SyncStreams | AsyncStreams = request.param()
    return world
