"""Bounds in words, as ``explain`` and ``diff`` say them."""

from __future__ import annotations

from pixel_llm.cli.terminal import printable
from pixel_llm.policy import LoadedPolicy, format_duration
from pixel_llm.policy.bounds import GENERATE, Bounds
from pixel_llm.policy.locating import STANDARD_INPUT
from pixel_llm.policy.showing import count
from pixel_llm.policy.sizes import format_size


def origin(found: LoadedPolicy) -> str:
    """Which profile it is, and where it was found."""
    if found.file == STANDARD_INPUT:
        return "from standard input"
    return f"profile {printable(found.profile)}, from {printable(str(found.file))}"


def duration(seconds: float | None, *, without: str) -> str:
    """A duration, to the millisecond, or what it means that there is none."""
    return without if seconds is None else format_duration(round(seconds, 3))


def explain_bounds(bounds: Bounds, *, has_breaker: bool) -> list[tuple[str, str]]:
    """The bounds that say something, each with its name."""
    latency = duration(bounds.worst_latency, without="without bound")
    rows = [("at worst", f"{latency}, {count(bounds.worst_attempts, 'attempt')}")]
    if bounds.target == GENERATE:
        rows.append(("", f"{count(bounds.worst_upstream_calls, 'request')} to LM Studio"))
    if has_breaker and bounds.held_back:
        rows.append(("breaker opens", "nobody can say when: the rate limit or the bulkhead may hold calls back"))
    elif has_breaker:
        calls = "1 call" if bounds.rate == 1 else f"{bounds.rate:g} calls"
        refused, silent = opening(bounds.opens_after), opening(bounds.opens_after_silence)
        rows.append(("breaker opens", f"{refused} an outage that refuses connections, at {calls} a second"))
        rows.append(("", f"{silent} one that gives no answer"))
    if bounds.cache_bytes:
        rows.append(("cache", f"at most {format_size(bounds.cache_bytes)}"))
    return rows


def opening(seconds: float | None) -> str:
    """When the breaker opens in an outage."""
    return "never in" if seconds is None else f"{duration(seconds, without='')} into"


def compare_bounds(bounds: Bounds, *, has_breaker: bool) -> dict[str, str]:
    """Each bound by its name; ``diff`` sets two of them side by side."""
    words = {
        "worst case": duration(bounds.worst_latency, without="without bound"),
        "attempts at worst": str(bounds.worst_attempts),
    }
    if bounds.target == GENERATE:
        words["requests to LM Studio at worst"] = str(bounds.worst_upstream_calls)
    if has_breaker:
        without = "can't be said" if bounds.held_back else "never"
        words["breaker opens, connections refused, after"] = duration(bounds.opens_after, without=without)
        words["breaker opens, no answers, after"] = duration(bounds.opens_after_silence, without=without)
    if bounds.cache_bytes:
        words["cache at most"] = format_size(bounds.cache_bytes)
    return words
