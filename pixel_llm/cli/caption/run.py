"""One run of the command: the images through the model, the captions to where they go."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from pixel_llm.cli.caption.images import STANDARD_INPUT
from pixel_llm.cli.caption.journal import Journal
from pixel_llm.cli.caption.progress import Watching
from pixel_llm.cli.caption.row import Row
from pixel_llm.cli.caption.telling import InOrder, IntoJournal, Teller, show_json, show_text, show_trouble
from pixel_llm.cli.policy.options import server_overrides
from pixel_llm.cli.terminal import printable
from pixel_llm.errors import PixelLMError
from pixel_llm.hybrid import DEFAULT_PROMPT, BatchProgress, HybridPixelLLM
from pixel_llm.monitoring.endpoint import serve_metrics


class Run:
    """
    Captions images once.

    Args:
        images: Their names.
        style: ``text`` or ``json``.
        output: The file for the captions, or None for standard output.
        jobs: How many images to ask about at once.
        prompt: What is asked.
        metrics_port: Where metrics are served meanwhile; None for nowhere.
        allow_degraded: Whether degraded captions are fine.
        profile: The profile.
        policies: The folder of policies.
        base_url: The server, if it is not the policy's.
        model: The model, if it is not the policy's.
    """

    def __init__(
        self,
        images: list[str],
        *,
        style: str,
        output: Path | None,
        jobs: int | None,
        prompt: str | None,
        metrics_port: int | None,
        allow_degraded: bool,
        profile: str | None,
        policies: Path | None,
        base_url: str | None,
        model: str | None,
    ) -> None:
        self._prompt = prompt if prompt is not None else DEFAULT_PROMPT
        self._named = len(images) > 1
        self._style, self._jobs = style, jobs
        self._metrics_port = metrics_port
        self._allow_degraded = allow_degraded
        self._is_fine = True
        self._model: dict[str, Any] = {
            "profile": profile,
            "policies": policies,
            "error_config": server_overrides(base_url, model),
        }
        self._journal = Journal(output) if output is not None else None
        known = self._journal
        self._images = [name for name in images if known is None or not known.has(name, self._prompt)]
        self._before = len(images) - len(self._images)
        self._broken: OSError | None = None

    def batch(self) -> int:
        """Caption them, several at once; the exit code."""
        with contextlib.ExitStack() as exits:
            if self._journal is not None:
                exits.callback(self._journal.close)
            watching = exits.enter_context(Watching(len(self._images), before=self._before))
            model = exits.enter_context(HybridPixelLLM(**self._model, listeners=[watching.event]))
            exits.enter_context(self._metrics_of(model))
            told = partial(self._told, self._teller(), watching)
            try:
                model.generate_batch(self._sources(), self._prompt, jobs=self._jobs, on_progress=told)
            except KeyboardInterrupt:
                watching.say(f"interrupted; {watching.summary()}" if self._named else "interrupted")
                if self._journal is not None:
                    watching.say("the same command goes on where this one stopped")
                return 130
            if self._broken is not None:
                raise self._broken
        if self._named or self._journal is not None:
            click.echo(watching.summary(), err=True)
        return 0 if self._is_fine else 1

    def stream(self) -> int:
        """Caption them one after the other, printing each caption while it is written; the exit code."""
        watching = Watching(1)
        with HybridPixelLLM(**self._model, listeners=[watching.event]) as model, self._metrics_of(model):
            for name in self._images:
                row = self._streamed(model, name)
                show_trouble(row)
                watching.ended(row)
                self._note(row)
        return 0 if self._is_fine else 1

    def _metrics_of(self, model: HybridPixelLLM) -> contextlib.AbstractContextManager[object]:
        """Within, metrics are served, if they are wanted. If they can't be, a warning says so, and captions go on."""
        if self._metrics_port is None:
            return contextlib.nullcontext()
        server = serve_metrics(model.policies, self._metrics_port)
        if server.is_serving:
            click.echo(f"metrics: {server.url}", err=True)
        return server

    def _streamed(self, model: HybridPixelLLM, name: str) -> Row:
        before, begun = (f"{printable(name)}: " if self._named else ""), False
        try:
            with model.stream(_source(name), self._prompt) as pieces:
                for piece in pieces:
                    click.echo(before + printable(piece, keep_lines=not self._named), nl=False)
                    before, begun = "", True
                row = Row(name, self._prompt, pieces.result)
        except PixelLMError as error:
            row = Row(name, self._prompt, error=error)
        if begun or row.result is not None:
            click.echo(before + row.marks())
        return row

    def _teller(self) -> Teller:
        if self._journal is not None:
            return IntoJournal(self._journal)
        return InOrder(show_json if self._style == "json" else partial(show_text, named=self._named))

    def _sources(self) -> Iterator[Any]:
        for name in self._images:
            if self._broken is not None:
                raise self._broken  # captions that nobody can read need not be asked for
            yield _source(name)

    def _told(self, teller: Teller, watching: Watching, progress: BatchProgress) -> None:
        item = progress.item
        row = Row.of(item, self._images[item.index], self._prompt)
        watching.ended(row)
        self._note(row)
        try:
            with watching.aside():
                teller.tell(item.index, row)
        except OSError as error:
            self._broken = error

    def _note(self, row: Row) -> None:
        self._is_fine = self._is_fine and row.result is not None and (self._allow_degraded or not row.degraded)


def _source(name: str) -> Any:
    return sys.stdin.buffer if name == STANDARD_INPUT else name
