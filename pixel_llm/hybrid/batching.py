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
import contextvars
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pixel_llm.hybrid.batch import MOST_BYTES, BatchItem, OnProgress, Prepared, Tally, check_images, portions
from pixel_llm.hybrid.captioning import Captioning
from pixel_llm.hybrid.describing import read_picture
from pixel_llm.hybrid.ending import ending_with
from pixel_llm.hybrid.handover import Handover
from pixel_llm.hybrid.question import Question
from pixel_llm.hybrid.result import CaptionResult
from pixel_llm.request import Request
from pixel_llm.resilience import Clock
from pixel_llm.resilience.clock import EndableClock
from pixel_llm.resilience.threads.pool import WORKERS

if TYPE_CHECKING:
    from pixel_llm.encoder import Picture


class Batching:
    """
    Makes the captions of one batch.

    Args:
        captioning: Captions each picture.
        describe: Gives the encoder's words for several pictures at once; None where nobody wants them.
        clock: Where time comes from.
        prompt: What is asked.
        jobs: How many pictures are asked about at once.
        together: How many pictures the encoder takes at once.
        on_progress: Told of every picture that has ended.
    """

    def __init__(
        self,
        captioning: Captioning,
        describe: Callable[[list[Picture]], list[str | None]] | None,
        *,
        clock: Clock,
        prompt: str,
        jobs: int,
        together: int,
        on_progress: OnProgress | None,
    ) -> None:
        self._captioning = captioning
        self._describe = describe
        self._clock = clock
        self._prompt = prompt
        self._jobs = jobs
        self._size = max(jobs, together)
        self._on_progress = on_progress
        self._request = Request()

    def run(self, images: Iterable[Any]) -> list[BatchItem]:
        """Caption *images*. An interrupt, here or in a thread that asks, ends those that are under way."""
        check_images(images)
        tally = Tally(images, self._on_progress)
        # Those who ask end with this clock, so that an interrupt reaches what they wait for.
        clock = EndableClock(self._clock)
        handover = Handover(self._size)

        def ask_on() -> Callable[[], object]:
            try:
                with ending_with(clock):
                    while (prepared := handover.take()) is not None:
                        how = self._ask(prepared)
                        if not clock.ended:  # else nobody wants to know
                            self._ended(prepared, how, tally)
            except BaseException as error:  # noqa: BLE001 - it is raised again where the batch was asked for
                handover.break_off(error)
            return handover.leave

        try:
            for _ in range(self._jobs):
                WORKERS.run(partial(contextvars.copy_context().run, ask_on), "pixel-llm batch")
                handover.join()
            for some in self._prepared(portions(images, self._size)):
                for prepared in some:
                    handover.put(prepared)
            handover.wait()
        except BaseException:
            tally.hush()
            clock.end()
            handover.break_off()
            raise
        return tally.items()

    async def run_async(self, images: Iterable[Any] | AsyncIterable[Any]) -> list[BatchItem]:
        """:meth:`run` for event loops. Cancellation ends those that are under way."""
        check_images(images, in_loop=True)
        tally = Tally(images, self._on_progress)
        free = asyncio.Semaphore(self._jobs)
        tasks: set[asyncio.Task[None]] = set()
        broken: list[BaseException] = []

        async def ask(prepared: Prepared) -> None:
            try:
                self._ended(prepared, await self._ask_async(prepared), tally)
            except BaseException as error:  # noqa: BLE001 - it is raised again where the batch was asked for
                broken.append(error)
            finally:
                free.release()

        take = self._taking(images)
        try:
            while portion := await take():
                for prepared in portion:
                    await free.acquire()
                    if broken:
                        raise broken[0]
                    task = asyncio.create_task(ask(prepared))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            while tasks and not broken:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if broken:
                raise broken[0]
        finally:
            for task in list(tasks):
                task.cancel()
            if tasks:
                await asyncio.wait(list(tasks))
            broken.clear()  # a traceback in it holds this frame: a cycle
        return tally.items()

    def _taking(self, images: Iterable[Any] | AsyncIterable[Any]) -> Callable[[], Awaitable[list[Prepared]]]:
        """What gives the next portion, an empty one at the end. Only an async iterator runs in the event loop."""
        if not isinstance(images, AsyncIterable):
            prepared = self._prepared(portions(images, self._size))
            return lambda: asyncio.to_thread(_following, prepared)
        source, count = aiter(images), 0
        rest: Iterator[list[Prepared]] = iter(())

        async def take() -> list[Prepared]:
            nonlocal count, rest
            if some := await asyncio.to_thread(_following, rest):
                return some
            portion: list[tuple[int, Any]] = []
            try:
                while len(portion) < self._size:
                    portion.append((count, await anext(source)))
                    count += 1
            except StopAsyncIteration:
                pass
            rest = self._prepared([portion])
            return await asyncio.to_thread(_following, rest)

        return take

    def _prepared(self, drawn: Iterable[list[tuple[int, Any]]]) -> Iterator[list[Prepared]]:
        """Read images, and let the encoder describe them: a portion together, or as many as memory is meant for."""
        for portion in drawn:
            read: list[Prepared] = []
            for index, image in portion:
                read.append(self._read(index, image))
                if sum(prepared.memory for prepared in read) >= MOST_BYTES:
                    yield self._described(read)
                    read = []
            if read:
                yield self._described(read)

    def _described(self, read: list[Prepared]) -> list[Prepared]:
        """The pictures that were *read* with what the encoder says of them."""
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

    def _ask(self, prepared: Prepared) -> CaptionResult | Exception:
        try:
            with self._request.part(prepared.index):
                return self._captioning.caption(_question_of(prepared), prepared.reading)
        except Exception as error:  # noqa: BLE001 - the same
            return error

    async def _ask_async(self, prepared: Prepared) -> CaptionResult | Exception:
        try:
            with self._request.part(prepared.index):
                return await self._captioning.caption_async(_question_of(prepared), prepared.reading)
        except Exception as error:  # noqa: BLE001 - the same
            return error

    def _ended(self, prepared: Prepared, how: CaptionResult | Exception, tally: Tally) -> None:
        with self._request.part(prepared.index):
            self._captioning.ended(self._prompt, how)
        tally.add(prepared, how)


def _following(prepared: Iterator[list[Prepared]]) -> list[Prepared]:
    return next(prepared, [])


def _question_of(prepared: Prepared) -> Question:
    if prepared.question is None:
        raise prepared.error or RuntimeError("the picture was not read")
    return prepared.question
