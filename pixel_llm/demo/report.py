"""How the demonstration is shown: a live table on a terminal, plain lines elsewhere, or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pixel_llm.demo.story import TEMPO_IN_WORDS, Act, Call, Summary

_INTRODUCTION = f"The policy is `production`, with shorter times so that you need not wait: {TEMPO_IN_WORDS}."
_STATE_STYLES = {"closed": "green", "half_open": "yellow", "open": "red"}


class Report(Protocol):
    """Shows the story as it goes."""

    def act(self, act: Act) -> None:
        """The server does something and a caption is asked for."""

    def call(self, call: Call) -> None:
        """The call has ended."""

    def end(self, summary: Summary) -> None:
        """The story has ended."""


class PlainReport:
    """A few lines for each call."""

    def __init__(self, write: Callable[[str], Any]) -> None:
        self._write = write
        write(_INTRODUCTION)

    def act(self, act: Act) -> None:
        self._write("")
        self._write(f"Server: {act.server}")

    def call(self, call: Call) -> None:
        self._write(f"  {call.number}. {call.picture}: {' · '.join(call.timeline)}")
        self._write(
            f"     served by {call.served_by}{' (degraded)' if call.degraded else ''}, attempts: {call.attempts}, "
            f"{call.elapsed:.1f} s, breaker {call.breaker_state}"
        )
        self._write(f"     “{_shorten(call.caption or '', 100)}”")

    def end(self, summary: Summary) -> None:
        self._write("")
        self._write(_log_sample(summary))
        self._write(summary.sentence())


class JSONReport:
    """One object for each call, nothing else."""

    def __init__(self, write: Callable[[str], Any]) -> None:
        self._write = write

    def act(self, act: Act) -> None:
        pass

    def call(self, call: Call) -> None:
        self._write(json.dumps({**asdict(call), "elapsed": round(call.elapsed, 3)}))

    def end(self, summary: Summary) -> None:
        pass


class LiveReport:
    """A table that grows on the terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._calls: list[Call] = []
        console.print(_INTRODUCTION)
        # What does not fit on the screen can't be redrawn: while it grows, its end is shown; then all of it.
        self._live = Live(console=console, refresh_per_second=8, transient=True)
        self._live.start()

    def act(self, act: Act) -> None:
        fitting = max(1, (self._console.height - 8) // 6)
        self._live.update(Group(self._table(self._calls[-fitting:]), Text(f"… server: {act.server}", "dim")))

    def call(self, call: Call) -> None:
        self._calls.append(call)

    def end(self, summary: Summary) -> None:
        self._live.stop()
        self._console.print(self._table(self._calls))
        self._console.print(_log_sample(summary), style="dim", highlight=False, soft_wrap=False)
        self._console.print(summary.sentence(), style="bold", highlight=False)

    def _table(self, calls: list[Call]) -> Table:
        table = Table(expand=True, show_lines=True)
        table.add_column("", justify="right")
        table.add_column("server", ratio=3, overflow="fold")
        table.add_column("attempts and waits", ratio=4, min_width=22)  # fits 80 columns
        table.add_column("s", justify="right", no_wrap=True)
        table.add_column("breaker", no_wrap=True)
        table.add_column("served by, caption", ratio=3, min_width=13)
        for call in calls:
            served_by = Text(call.served_by or "nobody", "yellow" if call.degraded else "green")
            table.add_row(
                str(call.number),
                call.server,
                "\n".join(call.timeline).replace("ERR_", ""),
                f"{call.elapsed:.1f}",
                Text(call.breaker_state, _STATE_STYLES[call.breaker_state]),
                Group(served_by, _shorten(call.caption or "", 70)),
            )
        return table


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _log_sample(summary: Summary) -> str:
    lines = summary.log.splitlines()
    state = next((line for line in lines if "circuit_state_changed" in line), lines[-1] if lines else "")
    return f"One of the {len(lines)} records that `logging:` wrote: {state}"
