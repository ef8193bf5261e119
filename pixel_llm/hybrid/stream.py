"""A caption that is read while it is written, in both worlds."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from pixel_llm.errors import LimitExceeded
from pixel_llm.hybrid.asking import Told
from pixel_llm.hybrid.closing import close_later
from pixel_llm.hybrid.ending import ending_with
from pixel_llm.hybrid.result import CaptionResult, result_of, text_of
from pixel_llm.lm_studio import ChatChunk
from pixel_llm.request import Request
from pixel_llm.resilience import Clock, Outcome
from pixel_llm.resilience.clock import EndableClock

#: Told once how it ended, with its result or with an error, and what has arrived of it.
Ended = Callable[[CaptionResult | Exception, str], None]


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
        self._is_closed = self._is_whole = self._is_interrupted = False
        #: Why it will never be whole.
        self._trouble: str | None = None

    @property
    def text(self) -> str:
        """The caption so far."""
        return "".join(self._pieces)

    @property
    def result(self) -> CaptionResult:
        """
        The caption so far, and how it came about; complete when the stream has ended.

        Raises:
            RuntimeError: If nothing has been read yet, or the caption broke off: it failed, or its reader was
                interrupted. What had come by then is its :attr:`text`.
        """
        if self._trouble is not None:
            raise RuntimeError(self._trouble)
        if not (self._pieces or self._is_whole):
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

    def _check_uninterrupted(self) -> None:
        """Reading on where a reader was interrupted would make half a caption look like a whole one."""
        if self._is_interrupted:
            raise RuntimeError(self._trouble)

    def _come_whole(self) -> None:
        """It has ended normally."""
        if self._is_closed or self._trouble is not None:
            return
        self._is_whole = True
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(self.result, self.text)

    def _fail(self, error: Exception) -> None:
        """It has ended in *error*."""
        ended, self._ended = self._ended, None
        self._trouble = self._trouble or f"the caption failed, so it has no result: {error}"
        # One that was closed because nobody read it says nothing of the server, nor of the policy.
        if ended is not None and not (isinstance(error, LimitExceeded) and "max_pause" in error.details):
            ended(error, self.text)

    def _interrupt(self, error: BaseException) -> None:
        """Its reader was interrupted, which has ended it: that is neither success nor failure."""
        self._ended, self._is_interrupted = None, True
        self._trouble = f"reading the caption was interrupted by {type(error).__name__}, which has ended it"


class CaptionStream(_Caption, Iterator[str]):
    """
    An iterator over the pieces of a caption, and a context manager that closes it.

    The server is asked when the first piece is. ``"".join(stream)`` is the whole caption; :attr:`result` says
    afterwards who served. An error before the first piece is that of the whole call; one after it carries what had
    ``arrived``. May be read in any thread, by one at a time, and closed by any: everything else is a RuntimeError, and
    leaves the stream unharmed. An interrupt, such as Ctrl-C in ``next()``, ends it: it counts neither as success nor
    as failure, and reading on is a RuntimeError.
    """

    def __init__(
        self, open_stream: Callable[[Told], Any], reading: float, ended: Ended, request_id: str, clock: Clock
    ) -> None:
        super().__init__(ended, request_id)
        self._stream = open_stream(self._told)
        self._reading = reading
        self._busy = threading.Lock()
        # What is waited for goes by this clock, so that closing reaches it.
        self._clock = EndableClock(clock)
        self._has_begun = False

    def __next__(self) -> str:
        if not self._busy.acquire(blocking=False):
            if self._is_closed:
                raise StopIteration
            raise RuntimeError("the caption is being read by another thread")
        try:
            with Request(self._request_id):
                return self._read()
        finally:
            self._busy.release()

    def _read(self) -> str:
        self._check_uninterrupted()
        while True:
            try:
                chunk = self._next()
            except StopIteration:
                self._come_whole()
                raise
            except Exception as error:
                if self._is_closed:
                    raise StopIteration from None  # it came of that
                self._fail(error)
                raise
            except BaseException as error:
                self._interrupt(error)
                raise
            if self._is_closed:
                raise StopIteration
            if piece := self._take(chunk):
                return piece

    def _next(self) -> Any:
        if self._has_begun:
            return next(self._stream)
        self._has_begun = True
        with ending_with(self._clock):
            return next(self._stream)

    def close(self) -> None:
        """
        End it, at any moment; a caption that was not read to its end counts neither as success nor as failure.

        While another thread reads, that one stops waiting for the server within a moment, and its ``next()`` says
        that the stream has ended; nothing more is sent. A pause between two attempts, and the encoder, are waited
        out there.
        """
        self._is_closed, self._ended = True, None
        with Request(self._request_id):
            self._stream.close()
        self._clock.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncCaptionStream(_Caption, AsyncIterator[str]):
    """
    :class:`CaptionStream` for event loops. The image is read, in a thread, when the first piece is asked for.

    It may be read and closed by any task of the event loop that began to read it, and is read by one at a time.
    Cancelling its reader, as ``asyncio.wait_for(anext(stream), …)`` does, ends it.
    """

    def __init__(self, open_stream: Callable[[Told], Awaitable[Any]], ended: Ended, request_id: str) -> None:
        super().__init__(ended, request_id)
        self._open = open_stream
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_read = False

    async def __anext__(self) -> str:
        if self._is_closed and self._stream is None:
            raise StopAsyncIteration
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise RuntimeError("the caption belongs to the event loop that began to read it")
        if self._is_read:
            if self._is_closed:
                raise StopAsyncIteration
            raise RuntimeError("the caption is being read by another task")
        self._is_read = True
        try:
            with Request(self._request_id):
                return await self._read()
        finally:
            self._is_read = False

    async def _read(self) -> str:
        self._check_uninterrupted()
        while True:
            try:
                if self._stream is None:
                    await self._begin()
                chunk = await anext(self._stream)
            except StopAsyncIteration:
                self._come_whole()
                raise
            except Exception as error:
                if self._is_closed:
                    raise StopAsyncIteration from None  # it came of that
                self._fail(error)
                raise
            except BaseException as error:
                self._interrupt(error)
                raise
            if self._is_closed:
                raise StopAsyncIteration
            if piece := self._take(chunk):
                return piece

    async def aclose(self) -> None:
        """
        End it, at any moment, as :meth:`CaptionStream.close` does.

        A task that waits for the server is interrupted at once; one that still waits for its image to be read hears
        of it when that is done, and nothing is sent.
        """
        self._is_closed, self._ended = True, None
        if self._stream is not None:
            with Request(self._request_id):
                await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # One that is left half read, as by `break`, is closed here: were that left to the garbage collection of its
        # generators, a loop that is about to end would close them a second time, and complain.
        stream, loop = getattr(self, "_stream", None), getattr(self, "_loop", None)
        if stream is not None and loop is not None and not (self._is_whole or self._is_closed or self._trouble):
            with contextlib.suppress(RuntimeError), Request(self._request_id):  # the loop is closed, and has closed it
                close_later(stream, loop)

    async def _begin(self) -> None:
        started = time.monotonic()
        stream = await self._open(self._told)
        if self._is_closed:
            raise StopAsyncIteration
        self._stream = stream
        self._reading = time.monotonic() - started
