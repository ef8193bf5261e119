"""What someone who waits is told meanwhile: how far it is, retries, breakers, and how it ended."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from pixel_llm.cli.caption.row import Row
from pixel_llm.events import CircuitStateChanged, Event, RetryScheduled

if TYPE_CHECKING:
    from rich.progress import Progress


class Watching:
    """
    Counts images and tells of them on standard error: with a bar where that is a terminal and there are several.

    Args:
        total: How many images there are to caption.
        before: How many have their caption already.
        has_bar: Whether a bar may be shown.
    """

    def __init__(self, total: int, *, before: int = 0, has_bar: bool = True) -> None:
        self._total, self._before = total, before
        self._started = time.monotonic()
        self._captioned = self._degraded = self._failed = 0
        self._codes: Counter[str] = Counter()
        self._is_terminal = sys.stderr.isatty()
        self._bar = self._make_bar() if has_bar and self._is_terminal and total > 1 else None
        self._task = self._bar.add_task("", total=total) if self._bar is not None else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def event(self, event: Event) -> None:
        """Tell a listener's *event* that explains a wait."""
        if not self._is_terminal:
            return
        if isinstance(event, RetryScheduled):
            why = event.error_code or "an error"
            self.say(f"{event.target}: attempt {event.attempt} failed ({why}); next in {event.delay:.1f} s")
        elif isinstance(event, CircuitStateChanged):
            self.say(f"{event.target}: circuit breaker {event.old_state} → {event.new_state}")

    def say(self, text: str) -> None:
        """One line on standard error, above the bar if there is one."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(text, err=True)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Within, the bar makes room for other output, whichever stream of the terminal that goes to."""
        if self._bar is None:
            yield
            return
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()

    def ended(self, row: Row) -> None:
        """One more has ended."""
        if row.error_code is not None:
            self._codes[row.error_code] += 1
        if row.error is not None:
            self._failed += 1
        elif row.degraded:
            self._degraded += 1
        else:
            self._captioned += 1
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=1, description=self._trouble())

    def summary(self) -> str:
        """How all of them have ended, in a line."""
        done = self._captioned + self._degraded + self._failed
        parts = [f"{self._captioned} captioned"]
        parts += [f"{self._degraded} degraded"] if self._degraded else []
        parts += [f"{self._failed} failed"] if self._failed else []
        parts += [f"{self._before} were there already"] if self._before else []
        parts += [f"{self._total - done} not reached"] if done < self._total else []
        codes = ", ".join(f"{code} {count}" for code, count in self._codes.most_common())
        count = self._total + self._before
        why = f" ({codes})" if codes else ""
        elapsed = time.monotonic() - self._started
        return f"{count} image{'s' if count != 1 else ''}: {', '.join(parts)}{why}; {elapsed:.1f} s"

    def _trouble(self) -> str:
        parts = [f"{self._degraded} degraded"] if self._degraded else []
        parts += [f"{self._failed} failed"] if self._failed else []
        return ", ".join(parts)

    @staticmethod
    def _make_bar() -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        return Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )
