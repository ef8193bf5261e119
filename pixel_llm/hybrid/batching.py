"""
Many pictures, one caption each, in both worlds.

::

    images → read → encoded together → asked, several at once → items

A portion of the images is read and encoded while the model is asked about the one before. Whatever goes wrong with
one picture ends that one; if the encoder fails on a portion, each of its pictures is encoded by itself. The id of each
picture's request is the batch's with the picture's index behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pixel_llm.hybrid.batch import BatchItem, OnProgress, Prepared, Tally, portions
from pixel_llm.hybrid.describing import read_picture
from pixel_llm.hybrid.question import Question
from pixel_llm.hybrid.result import CaptionResult
from pixel_llm.request import Request
from pixel_llm.resilience import Clock
from pixel_llm.resilience.clock import EndableClock
from pixel_llm.resilience.limits import Limits, publish
from pixel_llm.resilience.threads.pool import WORKERS

if TYPE_CHECKING:
    from pixel_llm.encoder import Picture


class Captioner(Protocol):
    """Captions one picture that has been read, and counts how it ends."""

    def caption(self, question: Question, reading: float) -> CaptionResult:
        """The caption; *reading* is how many seconds it took to read the picture."""

    async def caption_async(self, question: Question, reading: float) -> CaptionResult:
        """The same for event loops."""

    def not_read(self, error: Exception) -> None:
        """Count a picture that could not be read."""


class Batching:
    """
    Makes the captions of one batch.

    Args:
        captioner: Captions each picture.
        describe: Gives the encoder's words for several pictures at once; None where nobody wants them.
        clock: Where time comes from.
        prompt: What is asked.
        jobs: How many pictures are asked about at once.
        together: How many pictures the encoder takes at once.
        on_progress: Told of every picture that has ended.
    """

    def __init__(
        self,
        captioner: Captioner,
        describe: Callable[[list[Picture]], list[str | None]] | None,
        *,
        clock: Clock,
        prompt: str,
        jobs: int,
        together: int,
        on_progress: OnProgress | None,
    ) -> None:
        self._captioner = captioner
        self._describe = describe
        self._clock = clock
        self._prompt = prompt
        self._jobs = jobs
        self._size = max(jobs, together)
        self._on_progress = on_progress
        self._request = Request()

    def run(self, images: Iterable[Any]) -> list[BatchItem]:
        """Caption *images*. An interrupt ends those that are under way."""
        tally = Tally(images, self._on_progress)
        # Those who ask end with this clock, so that an interrupt reaches what they wait for.
        clock = EndableClock(self._clock)
        todo: queue.Queue[Prepared | None] = queue.Queue(self._size)
        left = threading.Semaphore(0)

        def ask_on() -> Any:
            publish(Limits(clock=clock))
            while (prepared := todo.get()) is not None and not clock.ended:
                self._ask(prepared, tally)
            return left.release

        for _ in range(self._jobs):
            WORKERS.run(partial(contextvars.copy_context().run, ask_on), "pixel-llm batch")
        try:
            for portion in portions(images, self._size):
                for prepared in self._prepare(portion):
                    todo.put(prepared)
            for _ in range(self._jobs):
                todo.put(None)
            for _ in range(self._jobs):
                left.acquire()
        except BaseException:
            tally.hush()
            clock.end()
            _dismiss(todo, self._jobs)
            raise
        return tally.items()

    async def run_async(self, images: Iterable[Any]) -> list[BatchItem]:
        """:meth:`run` for event loops. Cancellation ends those that are under way."""
        tally = Tally(images, self._on_progress)
        free = asyncio.Semaphore(self._jobs)
        tasks: set[asyncio.Task[None]] = set()

        async def ask(prepared: Prepared) -> None:
            try:
                await self._ask_async(prepared, tally)
            finally:
                free.release()

        try:
            for portion in portions(images, self._size):
                for prepared in await asyncio.to_thread(self._prepare, portion):
                    await free.acquire()
                    task = asyncio.create_task(ask(prepared))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            while tasks:
                await asyncio.wait(tasks)
        finally:
            for task in list(tasks):
                task.cancel()
            if tasks:
                await asyncio.wait(list(tasks))
        return tally.items()

    def _prepare(self, portion: list[tuple[int, Any]]) -> list[Prepared]:
        """Read the images of *portion*, and let the encoder describe them together."""
        read = [self._read(index, image) for index, image in portion]
        questions = [prepared.question for prepared in read if prepared.question is not None]
        if self._describe is None or not questions:
            return read
        try:
            described = iter(self._describe([question.picture for question in questions]))
        except Exception:  # noqa: BLE001 - each is described by itself, and says what is wrong with it
            return read
        return [
            prepared
            if prepared.question is None
            else replace(prepared, question=replace(prepared.question, description=next(described)))
            for prepared in read
        ]

    def _read(self, index: int, image: Any) -> Prepared:
        started = time.monotonic()
        try:
            with self._request.part(index):
                picture = read_picture(image)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this picture's end
            return Prepared(index, image, error=error)
        return Prepared(index, image, Question(picture, self._prompt), time.monotonic() - started)

    def _ask(self, prepared: Prepared, tally: Tally) -> None:
        how: CaptionResult | Exception
        try:
            with self._request.part(prepared.index):
                how = self._captioner.caption(self._question_of(prepared), prepared.reading)
        except Exception as error:  # noqa: BLE001 - the same
            how = error
        tally.add(prepared, how)

    async def _ask_async(self, prepared: Prepared, tally: Tally) -> None:
        how: CaptionResult | Exception
        try:
            with self._request.part(prepared.index):
                how = await self._captioner.caption_async(self._question_of(prepared), prepared.reading)
        except Exception as error:  # noqa: BLE001 - the same
            how = error
        tally.add(prepared, how)

    def _question_of(self, prepared: Prepared) -> Question:
        if prepared.question is not None:
            return prepared.question
        error = prepared.error or RuntimeError("the picture was not read")
        self._captioner.not_read(error)
        raise error


def _dismiss(todo: queue.Queue[Prepared | None], workers: int) -> None:
    """Tell all *workers* that there is nothing more to do."""
    with contextlib.suppress(queue.Empty):
        while True:
            todo.get_nowait()
    for _ in range(workers):
        with contextlib.suppress(queue.Full):
            todo.put_nowait(None)
