"""Where captions go: to standard output, in the order of the images, or into a file as they come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import click

from pixel_llm.cli.caption.journal import Journal
from pixel_llm.cli.caption.row import Row
from pixel_llm.cli.main import show_error
from pixel_llm.cli.terminal import json_text, printable
from pixel_llm.errors import PixelLMError


class Teller(Protocol):
    """Takes each row when its image has ended."""

    def tell(self, index: int, row: Row) -> None:
        """Tell *row*, whose image is the *index*-th, counted from 0."""


class InOrder:
    """Tells rows in the order of their images: one that comes early waits for those before it."""

    def __init__(self, show: Callable[[Row], None]) -> None:
        self._show = show
        self._waiting: dict[int, Row] = {}
        self._next = 0

    def tell(self, index: int, row: Row) -> None:
        """Show *row*, and those that have waited for it."""
        self._waiting[index] = row
        while (ready := self._waiting.pop(self._next, None)) is not None:
            self._next += 1
            self._show(ready)


class IntoJournal:
    """Writes rows into a file as they come, so that a crash loses none; errors are shown as well."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def tell(self, index: int, row: Row) -> None:
        """Write *row*."""
        self._journal.write(row)
        show_trouble(row)


def show_json(row: Row) -> None:
    """*row* as one line of JSON on standard output."""
    click.echo(json_text(row.fields()))


def show_text(row: Row, *, named: bool) -> None:
    """The caption on standard output, and what is wrong on standard error."""
    if row.result is not None:
        click.echo(row.as_text(named=named))
    show_trouble(row)


def show_trouble(row: Row) -> None:
    """What is wrong with *row*, if anything is, on standard error."""
    if isinstance(row.error, PixelLMError):
        show_error(row.error, about=row.image)
    elif row.error is not None:
        click.echo(f"error: {printable(row.image)}: {type(row.error).__name__}: {printable(str(row.error))}", err=True)
    elif row.result is not None and row.result.error is not None:
        reason = printable(str(row.result.error), keep_lines=True)
        click.echo(f"{printable(row.image)}: degraded, because {reason}", err=True)
