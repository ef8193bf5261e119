"""What a batch of pictures gives: an item for each, and word of how far it is."""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.events.trouble import report_trouble
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

    @property
    def memory(self) -> int:
        """Bytes that its pixels take."""
        return 0 if self.question is None else self.question.picture.pixels.nbytes


class Tally:
    """
    The items of one batch, as they come in. Safe for concurrent use.

    Args:
        images: The images.
        on_progress: Told of every item, in the thread or task in which it ended. If it raises an error, that is
            logged, and the batch goes on.
    """

    def __init__(self, images: object, on_progress: OnProgress | None) -> None:
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
            except Exception:  # noqa: BLE001 - the batch goes on
                report_trouble("the progress of a batch can't be told")

    def hush(self) -> None:
        """Tell nobody of what is still to come: the batch was broken off."""
        with self._lock:
            self._on_progress = None

    def items(self) -> list[BatchItem]:
        """All of them, in the order of the images."""
        return [self._items[index] for index in sorted(self._items)]


#: Pictures of so many bytes, three for a pixel, are read and encoded together; one of more is alone. And so many may
#: wait for somebody who asks about them.
MOST_BYTES = 256 * 2**20


def portions(images: Iterable[Any], size: int) -> Iterator[list[tuple[int, Any]]]:
    """The images with their places, *size* at a time; none is taken before it is wanted."""
    numbered = enumerate(images)
    while portion := list(islice(numbered, size)):
        yield portion


#: What is one picture, though it could be iterated over.
_SINGLE = (str, bytes, bytearray, memoryview, os.PathLike)


def check_images(images: object, *, in_loop: bool = False) -> None:
    """
    See that *images* are many; where the event loop asks, they may come from an async iterator.

    Raises:
        ValidationError: If they are one picture, or nothing that could be iterated over.
    """
    axes = getattr(images, "ndim", None)  # of an array or a tensor; one of paths has one
    is_single = isinstance(images, _SINGLE) or hasattr(images, "read") or axes in (0, 2, 3)
    if not is_single and isinstance(images, (Iterable, AsyncIterable) if in_loop else Iterable):
        return
    got = "None" if images is None else f"one {type(images).__name__}"
    if axes is not None:
        got += f" of shape {tuple(getattr(images, 'shape', ()))}"
    elif isinstance(images, AsyncIterable):
        got = f"{type(images).__name__}, which is for generate_batch_async"
    raise ValidationError(
        "images must be a list or an iterator of pictures, or an array of N x H x W x C; "
        f"a single picture goes in as [image] (got {got})",
        error_code=ErrorCode.ERR_VAL_INVALID_RANGE,
        details={"field": "images"},
    )


def check_progress(on_progress: object) -> None:
    """
    See that *on_progress* can be called, and ends when it returns.

    Raises:
        ValidationError: If it can't, or is async: nobody would await it.
    """
    called = getattr(on_progress, "__call__", None)  # noqa: B004 - it is the async kind that is looked for
    if on_progress is not None and (
        called is None or inspect.iscoroutinefunction(on_progress) or inspect.iscoroutinefunction(called)
    ):
        raise ValidationError(
            f"on_progress must be a plain function that takes a BatchProgress (got {on_progress!r})",
            error_code=ErrorCode.ERR_VAL_INVALID_RANGE,
            details={"field": "on_progress"},
        )
