"""Asking again and again, and showing what comes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from rich.live import Live

from pixel_llm.cli.terminal import printable
from pixel_llm.cli.top.ending import tidy_ending
from pixel_llm.cli.top.keys import keys
from pixel_llm.cli.top.view import draw, time_of_day
from pixel_llm.monitoring.endpoint.answers import Unavailable
from pixel_llm.monitoring.snapshot.merging import merged

if TYPE_CHECKING:
    from rich.console import Console

    from pixel_llm.monitoring.endpoint.remote import RemoteSnapshots
    from pixel_llm.monitoring.snapshot.model import Snapshot

#: Figures are those of so many seconds.
WINDOW = 60.0


class Lost(Exception):
    """The process that was watched no longer answers."""


def print_once(snapshots: RemoteSnapshots, console: Console) -> None:
    """Print what there is since the start."""
    console.print(draw(merged(snapshots()), (), url=snapshots.url))


def watch(snapshots: RemoteSnapshots, console: Console, interval: float) -> None:
    """
    Show what there is until Ctrl-C or ``q``, asking every *interval* seconds. A signal ends it tidily, too.

    Raises:
        Unavailable: If nothing answers.
        Lost: If it no longer answers.
    """
    seen: deque[tuple[Snapshot, ...]] = deque([merged(snapshots())])
    with tidy_ending(), keys() as wait, Live(console=console, auto_refresh=False, screen=True) as live:
        try:
            while True:
                before = seen[0] if len(seen) > 1 else ()
                live.update(draw(seen[-1], before, url=snapshots.url, height=console.height), refresh=True)
                if wait(interval):
                    return
                seen.append(merged(snapshots()))
                while len(seen) > 2 and _at(seen[-1]) - _at(seen[1]) >= WINDOW:
                    seen.popleft()
        except KeyboardInterrupt:
            return
        except Unavailable as error:
            last = time_of_day(_at(seen[-1]))
            raise Lost(f"the process has answered until {last}, and does no longer: {printable(str(error))}") from None


def _at(snapshots: tuple[Snapshot, ...]) -> float:
    return max((snapshot.taken_at for snapshot in snapshots), default=0.0)
