"""How the figures look: a table that fits 80 columns."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pixel_llm.cli.terminal import printable
from pixel_llm.cli.top.rows import Row, rows
from pixel_llm.monitoring.health import HealthStatus, judge
from pixel_llm.monitoring.snapshot.model import RecentError, Snapshot

_STATUS_STYLES = {HealthStatus.OK: "green", HealthStatus.DEGRADED: "yellow", HealthStatus.FAILING: "bold red"}

#: Lines that are no rows: title, heads, the space and the head of errors.
_OTHER_LINES = 7

#: So many errors are shown, where there is room.
_ERRORS = 5


def draw(now: Iterable[Snapshot], before: Iterable[Snapshot], *, url: str, height: int | None = None) -> RenderableType:
    """
    The view of the snapshots *now*; rates since those *before*, or since the start where there are none.

    Args:
        now: One for each policy.
        before: The same, earlier; may be empty.
        url: Where they are from.
        height: Lines that there are; None for any number.
    """
    then = {snapshot.profile: snapshot for snapshot in before}
    parts: list[RenderableType] = []
    snapshots = list(now)
    room = (
        None if height is None else max(1, (height - _OTHER_LINES * len(snapshots) - _ERRORS) // max(1, len(snapshots)))
    )
    for snapshot in snapshots:
        earlier = then.get(snapshot.profile)
        parts += [_title(snapshot, earlier, url), _table(rows(earlier, snapshot), room), Text()]
    errors = sorted((error for snapshot in snapshots for error in snapshot.recent_errors), key=lambda one: -one.at)
    if errors:
        parts.append(Text("Recent errors", style="bold"))
        parts += [_error(error) for error in errors[:_ERRORS]]
    return Group(*parts)


def _title(snapshot: Snapshot, before: Snapshot | None, url: str) -> Text:
    health = judge([snapshot])
    since = snapshot.since if before is None else before.taken_at
    period = f"{'since the start, ' if before is None else 'last '}{_long(snapshot.taken_at - since)}"
    return Text.assemble(
        (printable(snapshot.profile), "bold"),
        "  ",
        (health.status.value, _STATUS_STYLES[health.status]),
        ("  not reloaded" if snapshot.reloads.last_failed else "", "red"),
        f"  {period}  {url}",
        no_wrap=True,
        overflow="ellipsis",
    )


def _table(found: list[Row], room: int | None) -> RenderableType:
    if not found:
        return Text("no calls yet", style="dim")
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("target", no_wrap=True, overflow="ellipsis", ratio=1, min_width=12)
    for name in ("calls/s", "failed", "degraded", "p50", "p95"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("breaker", no_wrap=True)
    table.add_column("busy", no_wrap=True)
    shown = found if room is None or len(found) <= room else found[: room - 1]
    for row in shown:
        table.add_row(
            printable(row.target),
            f"{row.rate:.3g}" if row.rate < 1000 else f"{row.rate:.0f}",
            _share(row.failed, "red"),
            _share(row.degraded, "yellow"),
            _short(row.p50),
            _short(row.p95),
            Text(row.breaker, style="red" if "open" in row.breaker else ""),
            row.busy,
        )
    if len(shown) < len(found):
        table.add_row(f"… {len(found) - len(shown)} more")
    return table


def _error(error: RecentError) -> Text:
    at = time.strftime("%H:%M:%S", time.localtime(error.at))
    text = f"{at}  {printable(error.target)}  {error.code}  {printable(error.text)}"
    return Text(text, no_wrap=True, overflow="ellipsis")


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


def _long(seconds: float) -> str:
    """A time since then."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
