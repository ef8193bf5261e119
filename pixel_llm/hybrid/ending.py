"""Ending from outside what a thread of the sync world waits for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from pixel_llm.resilience.clock import EndableClock
from pixel_llm.resilience.limits import current_limits, publish, reset_published


@contextlib.contextmanager
def ending_with(clock: EndableClock) -> Iterator[None]:
    """
    Let what begins within end with *clock*, beside the limits that it has anyway.

    When that is ended, whatever goes by it is out of time: sockets stop within 50 ms, nothing more is sent, nothing is
    tried again, and breakers are neutral.
    """
    token = publish(replace(current_limits(), clock=clock))
    try:
        yield
    finally:
        reset_published(token)
