"""Asking again and again, and showing what comes."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from rich.live import Live

from pixel_llm.cli.terminal import printable
from pixel_llm.cli.top.ending import tidy_ending
from pixel_llm.cli.top.keys import keys
from pixel_llm.cli.top.view import draw, in_words
from pixel_llm.monitoring.endpoint.answers import Unavailable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from pixel_llm.monitoring.endpoint.remote import RemoteSnapshots
    from pixel_llm.monitoring.snapshot.model import Snapshot

#: Figures are those of so many seconds.
WINDOW = 60.0

#: Most answers are there within so many seconds; later ones are looked for that often.
_PROMPTLY, _LOOK = 0.1, 0.5


def print_once(snapshots: RemoteSnapshots, console: Console) -> None:
    """Print what there is since the start."""
    console.print(draw(snapshots(), (), url=snapshots.url))


def watch(snapshots: RemoteSnapshots, console: Console, interval: float) -> None:
    """
    Show what there is until Ctrl-C or ``q``, asking every *interval* seconds. A signal ends it tidily, too.

    A process that no longer answers may come back: what it said last stays, marked as old.

    Raises:
        Unavailable: If nothing answers at first.
    """
    watched = _Watched(snapshots.url, snapshots())
    with tidy_ending(), keys() as wait, Live(console=console, auto_refresh=False, screen=True) as live:
        try:
            while True:
                live.update(watched.view(console.height), refresh=True)
                if wait(interval):
                    return
                asking = _Asking(snapshots)
                while not asking.is_done(_PROMPTLY):
                    live.update(watched.view(console.height), refresh=True)
                    if wait(_LOOK):
                        return
                watched.take(asking.answer)
        except KeyboardInterrupt:
            return


class _Asking:
    """One question, asked in a thread: meanwhile keys count, and the clock goes on."""

    def __init__(self, snapshots: RemoteSnapshots) -> None:
        self.answer: tuple[Snapshot, ...] | Unavailable = Unavailable("the question could not be asked")
        self._snapshots = snapshots
        self._done = threading.Event()
        threading.Thread(target=self._ask, name="pixel-llm top", daemon=True).start()

    def is_done(self, seconds: float) -> bool:
        """Wait so long at most; True if there is an answer, or none will come."""
        return self._done.wait(seconds)

    def _ask(self) -> None:
        try:
            self.answer = self._snapshots()
        except Unavailable as error:
            self.answer = error
        finally:
            self._done.set()


class _Watched:
    """What the process at *url* has answered within the last minute, *first* first, and whether it still does."""

    def __init__(self, url: str, first: tuple[Snapshot, ...]) -> None:
        self._url = url
        self._seen = deque([first])
        self._answered_at = time.monotonic()
        self._trouble: Unavailable | None = None

    def take(self, answer: tuple[Snapshot, ...] | Unavailable) -> None:
        """Go on from *answer*, if it is one."""
        if isinstance(answer, Unavailable):
            self._trouble = answer
            return
        self._trouble, self._answered_at = None, time.monotonic()
        self._seen.append(answer)
        while len(self._seen) > 2 and _at(self._seen[-1]) - _at(self._seen[1]) >= WINDOW:
            self._seen.popleft()

    def view(self, height: int) -> RenderableType:
        """All of it, in so many lines."""
        before = self._seen[0] if len(self._seen) > 1 else ()
        return draw(self._seen[-1], before, url=self._url, height=height, silence=self._silence())

    def _silence(self) -> str:
        if self._trouble is None:
            return ""
        reason = printable(str(self._trouble)).removeprefix(f"{self._url}: ")
        return f"no answer for {in_words(time.monotonic() - self._answered_at)}: {reason}"


def _at(snapshots: tuple[Snapshot, ...]) -> float:
    return max((snapshot.taken_at for snapshot in snapshots), default=0.0)
