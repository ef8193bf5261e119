"""One run of the command: the images through the model, the captions to where they go."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from pixel_llm.cli.caption.images import STANDARD_INPUT, Found
from pixel_llm.cli.caption.journal import Journal
from pixel_llm.cli.caption.progress import Watching
from pixel_llm.cli.caption.row import Row
from pixel_llm.cli.caption.task import Task
from pixel_llm.cli.caption.telling import InOrder, IntoJournal, Teller, show_json, show_text, show_trouble
from pixel_llm.cli.policy.options import server_overrides
from pixel_llm.cli.terminal import printable
from pixel_llm.errors import PixelLMError
from pixel_llm.events import Event
from pixel_llm.hybrid import DEFAULT_PROMPT, BatchProgress, HybridPixelLLM
from pixel_llm.monitoring import Log
from pixel_llm.monitoring.endpoint import serve_metrics

#: Seconds that a caption waits for the log, should what it is written to hang.
_PATIENCE = 1.0


class _OutputLost(BaseException):
    """Breaks a batch off, which no mere error does: what its captions are written to takes none."""


class Run:
    """
    Captions images once.

    Args:
        found: Which images.
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
        found: Found,
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
        self._found = found
        self._prompt = prompt if prompt is not None else DEFAULT_PROMPT
        self._named = len(found.images) > 1
        self._style, self._output, self._jobs = style, output, jobs
        self._metrics_port = metrics_port
        self._allow_degraded = allow_degraded
        self._is_fine = True
        self._model: dict[str, Any] = {
            "profile": profile,
            "policies": policies,
            "error_config": server_overrides(base_url, model),
        }
        self._tasks: list[Task] = []
        self._watching: Watching | None = None
        self._broken: Exception | None = None
        #: The log that writes into the same terminal, if it does.
        self._log: Log | None = None

    def batch(self) -> int:
        """Caption them, several at once; the exit code."""
        with contextlib.ExitStack() as exits:
            model = exits.enter_context(HybridPixelLLM(**self._model, listeners=[self._event]))
            exits.enter_context(self._metrics_of(model))
            journal = None
            if self._output is not None:
                journal = Journal(self._output)
                exits.callback(journal.close)
            self._begin(model, journal)
            watching = Watching(len(self._tasks), before=len(self._found.images) - len(self._tasks))
            self._watching = exits.enter_context(watching)
            told = partial(self._told, self._teller(journal), watching)
            try:
                model.generate_batch(self._sources(), self._prompt, jobs=self._jobs, on_progress=told)
            except KeyboardInterrupt:
                watching.say(f"interrupted; {watching.summary()}" if self._named else "interrupted")
                self._say_how_to_go_on(watching)
                return 130
            except _OutputLost:
                assert self._broken is not None  # noqa: S101 - it has just been noted
                if self._output is not None:
                    watching.say(f"stopped; {watching.summary()}")
                    self._say_how_to_go_on(watching)
                raise self._broken from None
        if self._named or self._output is not None:
            click.echo(watching.summary(), err=True)
        if not self._is_fine and self._output is not None:
            click.echo("the same command asks again about those that failed", err=True)
        return 0 if self._is_fine else 1

    def stream(self) -> int:
        """Caption them one after the other, printing each caption while it is written; the exit code."""
        with HybridPixelLLM(**self._model, listeners=[self._event]) as model, self._metrics_of(model):
            self._begin(model, None)
            self._watching = watching = Watching(len(self._tasks), has_bar=False)
            for task in self._tasks:
                row = self._streamed(model, task)
                self._let_the_log_speak()
                show_trouble(row)
                watching.ended(row)
                self._note(row)
        if self._named:
            click.echo(watching.summary(), err=True)
        return 0 if self._is_fine else 1

    def _metrics_of(self, model: HybridPixelLLM) -> contextlib.AbstractContextManager[object]:
        """Within, metrics are served, if they are wanted. If they can't be, a warning says so, and captions go on."""
        if self._metrics_port is None:
            return contextlib.nullcontext()
        server = serve_metrics(model.policies, self._metrics_port)
        if server.is_serving:
            click.echo(f"metrics: {server.url}", err=True)
        return server

    def _begin(self, model: HybridPixelLLM, journal: Journal | None) -> None:
        """Say what could not be looked into, and leave out what is finished."""
        for complaint in self._found.complaints:
            click.echo(f"error: {printable(complaint)}", err=True)
            self._is_fine = False
        if model.policies.config.logging.console:
            self._log = model.policies.log
        asked = model.policies.config.lm_studio.model
        tasks = [Task.of(image, self._prompt, asked) for image in self._found.images]
        self._tasks = [task for task in tasks if journal is None or not journal.has(task)]

    def _event(self, event: Event) -> None:
        if self._watching is not None:
            self._watching.event(event)

    def _streamed(self, model: HybridPixelLLM, task: Task) -> Row:
        before, begun = (f"{printable(task.image)}: " if self._named else ""), False
        try:
            with model.stream(_source(task), self._prompt) as pieces:
                for piece in pieces:
                    click.echo(before + printable(piece, keep_lines=not self._named), nl=False)
                    before, begun = "", True
                row = Row(task, pieces.result)
        except PixelLMError as error:
            row = Row(task, error=error)
        if begun or row.result is not None:
            click.echo(before + (row.marks() if row.result is not None else "  [broken off]"))
        return row

    def _teller(self, journal: Journal | None) -> Teller:
        if journal is not None:
            return IntoJournal(journal)
        return InOrder(show_json if self._style == "json" else partial(show_text, named=self._named))

    def _sources(self) -> Iterator[Any]:
        return map(_source, self._tasks)

    def _told(self, teller: Teller, watching: Watching, progress: BatchProgress) -> None:
        row = Row.of(progress.item, self._tasks[progress.item.index])
        self._let_the_log_speak()
        try:
            with watching.aside():
                teller.tell(progress.item.index, row)
        except Exception as error:
            self._broken = error
            raise _OutputLost from error
        watching.ended(row)
        self._note(row)

    def _let_the_log_speak(self) -> None:
        """What is logged of an image stands before what is told of it: a thread of its own writes the log."""
        if self._log is not None:
            self._log.flush(_PATIENCE)

    def _note(self, row: Row) -> None:
        self._is_fine = self._is_fine and row.result is not None and (self._allow_degraded or not row.degraded)

    def _say_how_to_go_on(self, watching: Watching) -> None:
        if self._output is not None:
            watching.say("the same command goes on where this one stopped")


def _source(task: Task) -> Any:
    return sys.stdin.buffer if task.image == STANDARD_INPUT else task.image
