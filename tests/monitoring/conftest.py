from __future__ import annotations

import pytest
from logs_reading import Kept


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
