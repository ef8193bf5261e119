"""No case leaves anything instrumented behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pixel_llm.opentelemetry import instrumenting, uninstrument


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    for policies in list(instrumenting._instrumented):
        uninstrument(policies)
