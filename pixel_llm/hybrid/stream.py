"""A caption that is read while it is written, in both worlds."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from pixel_llm.hybrid.asking import Told
from pixel_llm.hybrid.result import CaptionResult, result_of, text_of
from pixel_llm.lm_studio import ChatChunk
from pixel_llm.request import Request
from pixel_llm.resilience import Outcome

#: Told once how it ended: with its result, or with an error.
Ended = Callable[[CaptionResult | Exception], None]


class _Caption:
    """What both worlds share: what has come so far, and how it came about."""

    def __init__(self, ended: Ended, request_id: str) -> None:
        # The reader's context is not the request's, which is entered for each piece.
        self._request_id = request_id
        self._ended: Ended | None = ended
        self._told = Told()
        self._stream: Any = None
        self._reading = 0.0
        self._pieces: list[str] = []
        self._last: ChatChunk | None = None

    @property
    def text(self) -> str:
        """The caption so far."""
        return "".join(self._pieces)

    @property
    def result(self) -> CaptionResult:
        """
        The caption so far, and how it came about; complete when the stream has ended.

        Raises:
            RuntimeError: If nothing has been read yet.
        """
        if self._stream is None or not (self._pieces or self._ended is None):
            raise RuntimeError("nothing has been read of the caption yet")
        outcome: Outcome[Any] = self._stream.outcome()
        text: Any = self.text
        if outcome.degraded:
            return result_of(replace(outcome, value=text), self._reading, self._request_id)
        value = text if self._last is None else replace(self._last, text=text)
        return result_of(replace(outcome, value=self._told.answer(value)), self._reading, self._request_id)

    def _take(self, chunk: Any) -> str:
        """The words in *chunk*, which are the next of the caption."""
        piece = text_of(chunk)
        if isinstance(chunk, ChatChunk):
            self._last = chunk
        if piece:
            self._pieces.append(piece)
        return piece

    def _end(self, error: Exception | None = None) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(self.result if error is None else error)


class CaptionStream(_Caption, Iterator[str]):
    """
    An iterator over the pieces of a caption, and a context manager that closes it.

    The server is asked when the first piece is. ``"".join(stream)`` is the whole caption; :attr:`result` says
    afterwards who served. An error before the first piece is that of the whole call; one after it carries what had
    ``arrived``. May be read in any thread, by one at a time, and closed by any.
    """

    def __init__(self, open_stream: Callable[[Told], Any], reading: float, ended: Ended, request_id: str) -> None:
        super().__init__(ended, request_id)
        self._stream = open_stream(self._told)
        self._reading = reading

    def __next__(self) -> str:
        with Request(self._request_id):
            while True:
                try:
                    chunk = next(self._stream)
                except StopIteration:
                    self._end()
                    raise
                except Exception as error:
                    self._end(error)
                    raise
                if piece := self._take(chunk):
                    return piece

    def close(self) -> None:
        """End it, at any moment; a caption that was not read to its end counts neither as success nor as failure."""
        self._ended = None
        with Request(self._request_id):
            self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncCaptionStream(_Caption, AsyncIterator[str]):
    """
    :class:`CaptionStream` for event loops. The image is read, in a thread, when the first piece is asked for.

    It may be read by any task of the event loop, by one at a time.
    """

    def __init__(self, open_stream: Callable[[Told], Awaitable[Any]], ended: Ended, request_id: str) -> None:
        super().__init__(ended, request_id)
        self._open: Callable[[Told], Awaitable[Any]] | None = open_stream

    async def __anext__(self) -> str:
        with Request(self._request_id):
            while True:
                try:
                    if self._stream is None:
                        await self._begin()
                    chunk = await anext(self._stream)
                except StopAsyncIteration:
                    self._end()
                    raise
                except Exception as error:
                    self._end(error)
                    raise
                if piece := self._take(chunk):
                    return piece

    async def aclose(self) -> None:
        """End it, at any moment, as :meth:`CaptionStream.close` does."""
        self._ended = self._open = None
        if self._stream is not None:
            with Request(self._request_id):
                await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _begin(self) -> None:
        open_stream, self._open = self._open, None
        if open_stream is None:
            raise StopAsyncIteration  # it was closed, or is being begun by another task
        started = time.monotonic()
        self._stream = await open_stream(self._told)
        self._reading = time.monotonic() - started
