"""Ending what gives the chunks of an async stream."""

from __future__ import annotations

from typing import Any


async def close_async(opened: Any) -> None:
    """End *opened*, if it can be ended: an async generator, or whatever has ``aclose`` or ``close``."""
    close = getattr(opened, "aclose", None) or getattr(opened, "close", None)
    closing: Any = close() if callable(close) else None
    if hasattr(closing, "__await__"):
        await closing
