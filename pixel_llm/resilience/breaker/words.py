"""What messages say of a circuit breaker."""

from __future__ import annotations

from collections.abc import Hashable

from pixel_llm.errors import ErrorCode


def breaker_label(key: Hashable) -> str:
    """What messages and events call the breaker of *key*."""
    return str(key)[:100]


def circuit_breaker(key: Hashable) -> str:
    """The breaker itself, by its key if it has one."""
    return "circuit breaker" if key is None else f"circuit breaker of {breaker_label(key)!r}"


def trial_calls(number: int) -> str:
    """``1 trial call``, ``2 trial calls``."""
    return "1 trial call" if number == 1 else f"{number} trial calls"


def failures(number: int) -> str:
    """What opened the breaker: so many failures while it was closed, or a trial."""
    if not number:
        return "a failed trial call"
    return f"{number} failure{'s' if number > 1 else ''}"


def last(code: ErrorCode | None) -> str:
    """The code of the last failure, in brackets, if it has one."""
    return f" (last: {code})" if code else ""
