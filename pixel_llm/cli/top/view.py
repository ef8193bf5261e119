"""How the figures look: a table that fits 80 columns, and fewer with fewer figures."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from pixel_llm.cli.terminal import printable
from pixel_llm.cli.top.rows import Row, earlier, rows
from pixel_llm.monitoring.health import HealthStatus, judge
from pixel_llm.monitoring.snapshot.merging import merged
from pixel_llm.monitoring.snapshot.model import RecentError, Snapshot

_STATUS_STYLES = {HealthStatus.OK: "green", HealthStatus.DEGRADED: "yellow", HealthStatus.FAILING: "bold red"}

#: Lines of a policy that are no rows: title, heads and the space below.
_OTHER_LINES = 3

#: So many errors are shown, where there is room.
_ERRORS = 5

#: Columns after the target, and how wide the terminal must be to show them.
_COLUMNS = {"calls/s": 0, "failed": 0, "degraded": 72, "p50": 72, "p95": 60, "breaker": 0, "busy": 50}


def draw(
    now: Iterable[Snapshot], before: Iterable[Snapshot], *, url: str, height: int | None = None, silence: str = ""
) -> RenderableType:
    """
    The view of the snapshots *now*; rates since those *before*, or since the start where there are none.

    Args:
        now: One for each policy; those of one profile are shown as one.
        before: The same, earlier; may be empty.
        url: Where they are from.
        height: Lines that there are; None for any number.
        silence: What is to be said of a process that answers no longer; empty of one that does.
    """
    now = tuple(now)
    known = {snapshot.profile: snapshot for snapshot in merged(before)}
    snapshots = merged(now)
    then = [earlier(known.get(snapshot.profile), snapshot) for snapshot in snapshots]
    parts: list[RenderableType] = [_line(silence, "bold red")] if silence else []
    if not snapshots:
        return Group(*parts, Text(f"no policies at {url}", style="dim"))
    errors = sorted(
        ((snapshot.profile, error) for snapshot in snapshots for error in snapshot.recent_errors),
        key=lambda one: -one[1].at,
    )
    found = list(map(rows, then, snapshots))
    left = None if height is None else height - len(parts)
    room, shown = _rooms([len(part) for part in found], len(errors), left)
    for snapshot, before_it, part in zip(snapshots, then, found, strict=True):
        health = judge(one for one in now if one.profile == snapshot.profile)
        parts += [_title(snapshot, before_it, health.status, url), _Targets(part, room), Text()]
    if shown:
        parts.append(Text("Recent errors", style="bold"))
        parts += [_error(error, profile if len(snapshots) > 1 else "") for profile, error in errors[:shown]]
    return Group(*parts)


def _rooms(rows_of_each: list[int], errors: int, height: int | None) -> tuple[int | None, int]:
    """How many rows each policy may have, and how many errors are shown: a third of a short terminal at most."""
    errors = min(errors, _ERRORS)
    if height is None:
        return None, errors
    policies = len(rows_of_each)
    left = height - _OTHER_LINES * policies
    if sum(max(1, number) for number in rows_of_each) + 1 + errors <= left:
        return None, errors
    kept = max(0, min(errors, left // 3 - 1))
    room = max(1, (left - (kept + 1 if kept else 0)) // policies)
    shown = sum(min(max(1, number), room) for number in rows_of_each)
    return room, max(0, min(errors, left - shown - 1))


def _title(snapshot: Snapshot, before: Snapshot | None, status: HealthStatus, url: str) -> Text:
    since = snapshot.since if before is None else before.taken_at
    period = f"{'since the start, ' if before is None else 'last '}{in_words(snapshot.taken_at - since)}"
    return Text.assemble(
        (printable(snapshot.profile), "bold"),
        "  ",
        (status.value, _STATUS_STYLES[status]),
        ("  not reloaded" if snapshot.reloads.last_failed else "", "red"),
        f"  {period}  {url}",
        no_wrap=True,
        overflow="ellipsis",
    )


class _Targets:
    """The table of one policy; how wide the terminal is is known when it is drawn."""

    def __init__(self, found: list[Row], room: int | None) -> None:
        self._found, self._room = found, room

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _table(self._found, self._room, options.max_width)


def _table(found: list[Row], room: int | None, width: int) -> RenderableType:
    if not found:
        return Text("no calls have ended yet", style="dim")
    columns = [name for name, needed in _COLUMNS.items() if width >= needed]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("target", no_wrap=True, overflow="ellipsis", ratio=1, min_width=12)
    for name in columns:
        table.add_column(name, justify="left" if name in ("breaker", "busy") else "right", no_wrap=True)
    shown = found if room is None or len(found) <= room else found[: room - 1]
    for row in shown:
        cells = _cells(row)
        table.add_row(Text(printable(row.target)), *(cells[name] for name in columns))
    if len(shown) < len(found):
        table.add_row(f"… {len(found) - len(shown)} more")
    return table


def _cells(row: Row) -> dict[str, RenderableType]:
    is_tripped = "open" in row.breaker and "shadow" not in row.breaker
    return {
        "calls/s": f"{row.rate:.3g}" if row.rate < 1000 else f"{row.rate:.0f}",
        "failed": _share(row.failed, "red"),
        "degraded": _share(row.degraded, "yellow"),
        "p50": _short(row.p50),
        "p95": _short(row.p95),
        "breaker": Text(row.breaker, style="red" if is_tripped else ""),
        "busy": row.busy,
    }


def _error(error: RecentError, profile: str) -> Text:
    words = (profile, error.target, error.code, error.text)
    return _line("  ".join([_time_of_day(error.at), *(printable(word) for word in words if word)]))


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _time_of_day(moment: float) -> str:
    """The local time of a *moment* in seconds since 1970, which may be one that no calendar has."""
    try:
        return time.strftime("%H:%M:%S", time.localtime(moment))
    except (OverflowError, ValueError, OSError):
        return "--:--:--"


def _share(share: float | None, style: str) -> Text:
    if share is None:
        return Text("–", style="dim")
    return Text(f"{share:.1%}", style=style if share else "")


def _short(seconds: float | None) -> str:
    """A latency in about three figures."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:.0f} s"


def in_words(seconds: float) -> str:
    """A time since then."""
    if not math.isfinite(seconds):
        return "?"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
