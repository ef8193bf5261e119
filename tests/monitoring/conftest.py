from __future__ import annotations

import pytest
from logs_reading import Kept
from shop import load_shop

from pixel_llm.testing import VirtualClock


@pytest.fixture
def keep(tmp_path):
    """Makes logs with a file, and closes them at the end."""
    logs = []

    def keep(name="shop.log", **config):
        logs.append(Kept(tmp_path / name, **config))
        return logs[-1]

    yield keep
    for kept in logs:
        kept.log.close()


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def shop(tmp_path, clock):
    """Policies that have every layer."""
    with load_shop(tmp_path, clock) as policies:
        yield policies
