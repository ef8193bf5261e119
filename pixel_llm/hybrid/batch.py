"""What a batch of pictures gives: an item for each, and word of how far it is."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pixel_llm.hybrid.question import Question
from pixel_llm.hybrid.result import CaptionResult


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchItem:
    """
    What became of one picture of a batch: a result, or an error. Immutable.

    Attributes:
        index: Its place among the images, counted from 0.
        image: The image as it was given.
        result: Its caption, if it got one.
        error: Why it got none.
    """

    index: int
    image: Any
    result: CaptionResult | None = None
    error: Exception | None = None

    def unwrap(self) -> CaptionResult:
        """The result; the error is raised."""
        if self.result is None:
            raise self.error or RuntimeError("the picture has neither result nor error")
        return self.result


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchProgress:
    """
    How far a batch is. Immutable.

    Attributes:
        done: How many pictures have ended.
        total: How many there are; None if the images come from an iterator, which does not say.
        item: The one that has ended last.
    """

    done: int
    total: int | None
    item: BatchItem


#: Told of every picture that has ended, one at a time.
OnProgress = Callable[[BatchProgress], object]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """
    A picture of a batch that has been read. Immutable.

    Attributes:
        index: As :class:`BatchItem` has it.
        image: The same.
        question: What is asked; None if it could not be read.
        reading: Seconds that reading took.
        error: Why it could not be read.
    """

    index: int
    image: Any
    question: Question | None = None
    reading: float = 0.0
    error: Exception | None = None


class Tally:
    """
    The items of one batch, as they come in. Safe for concurrent use.

    Args:
        images: The images.
        on_progress: Told of every item, in the thread or task in which it ended. If it raises, that is logged, and the
            batch goes on.
    """

    def __init__(self, images: Iterable[Any], on_progress: OnProgress | None) -> None:
        self._total = len(images) if isinstance(images, Sized) else None
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._items: dict[int, BatchItem] = {}

    def add(self, prepared: Prepared, how: CaptionResult | Exception) -> None:
        """The picture *prepared* has ended."""
        result, error = (how, None) if isinstance(how, CaptionResult) else (None, how)
        item = BatchItem(index=prepared.index, image=prepared.image, result=result, error=error)
        with self._lock:
            self._items[item.index] = item
            if self._on_progress is None:
                return
            try:
                self._on_progress(BatchProgress(done=len(self._items), total=self._total, item=item))
            except Exception:
                logging.getLogger("pixel_llm").exception("the progress of a batch can't be told")

    def hush(self) -> None:
        """Tell nobody of what is still to come: the batch was broken off."""
        with self._lock:
            self._on_progress = None

    def items(self) -> list[BatchItem]:
        """All of them, in the order of the images."""
        return [self._items[index] for index in sorted(self._items)]


def portions(images: Iterable[Any], size: int) -> Iterator[list[tuple[int, Any]]]:
    """The images with their places, *size* at a time; none is taken before it is wanted."""
    numbered = enumerate(images)
    while portion := list(islice(numbered, size)):
        yield portion
