"""Streams of the async world: async iterators run through a stack. :mod:`sync_stream` is its twin."""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any

from pixel_llm.events.trouble import report_trouble
from pixel_llm.resilience.limits import Published
from pixel_llm.resilience.streams.delivery import END, Delivery
from pixel_llm.resilience.streams.stream import Begun, Stream, chunks_of

if TYPE_CHECKING:
    from pixel_llm.resilience.streams.async_stream_road import AsyncStreamRoad


class AsyncStream(Stream, AsyncIterator[Any]):
    """
    An async iterator over the chunks of a guarded stream, and an async context manager that closes it.

    It belongs to the event loop in which its first chunk is asked for; there any task may read it, one at a time,
    and any may close it.
    """

    def __init__(self, road: AsyncStreamRoad, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(road.stack)
        self._begin: Callable[[], Any] | None = functools.partial(self._run, road, args, kwargs)
        self._loop: asyncio.AbstractEventLoop | None = None
        #: The task that reads or closes it, and how often that was cancelled before.
        self._reader: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._is_interrupted = False
        self._left: list[asyncio.Future[None]] = []
        self._pause: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def __anext__(self) -> Any:
        """
        The next chunk.

        Raises:
            RuntimeError: If another task is reading, or it belongs to another event loop.
            LimitExceeded: If the stream was closed meanwhile, since it had not been read for `max_pause`.
            Exception: What the stream failed of, once; see :meth:`Delivery.broken`.
        """
        if self._is_over:
            self._raise_error()
            raise StopAsyncIteration
        task = self._claim()
        try:
            chunk = await self._next()
        except BaseException as error:
            # Closed by another task, and cancelled for nothing else: to its reader it has ended.
            if self._was_only_closed(task) and isinstance(error, asyncio.CancelledError):
                raise StopAsyncIteration from None
            raise
        else:
            self._was_only_closed(task)  # too late, or not heeded
        finally:
            self._let_go()
        if chunk is END:
            self._is_over = True
            raise StopAsyncIteration
        self._chunks += 1
        return chunk

    async def aclose(self) -> None:
        """End the stream, at any moment; the breaker is neutral to that. A task that is reading it is interrupted."""
        while self._reader is not None:
            self._check_loop()
            if self._reader is asyncio.current_task():
                raise RuntimeError(f"the stream of {self.target} can't be closed by its own code")
            if not self._is_over and not self._is_interrupted:
                self._is_interrupted = True
                self._reader.cancel()
            left = asyncio.get_running_loop().create_future()
            self._left.append(left)
            await left
        if not self._is_over:
            self._claim()
            try:
                await self._shut("closed")
            finally:
                self._let_go()

    def _claim(self) -> asyncio.Task[Any]:
        self._check_loop()
        if self._reader is not None:
            raise RuntimeError(f"the stream of {self.target} is being read by another task, or by its own code")
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError(f"the stream of {self.target} must be read in a task")
        self._reader, self._cancelling, self._is_interrupted = task, task.cancelling(), False
        return task

    def _was_only_closed(self, task: asyncio.Task[Any]) -> bool:
        """Take back the cancellation of *task* by whoever closes the stream; True if it was the only one."""
        return self._is_interrupted and task.uncancel() <= self._cancelling

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError(f"the stream of {self.target} belongs to the event loop that began to read it")

    def _let_go(self) -> None:
        self._reader = None
        left, self._left = self._left, []
        for future in left:
            if not future.done():
                future.set_result(None)

    async def _next(self) -> Any:
        if self._begin is not None:
            begin, self._begin = self._begin, None
            return await begin()
        delivery = self._delivery
        if delivery is None:
            return await self._next_substitute()
        if delivery.rest_of_pause() <= 0:
            error = delivery.paused_too_long()
            await self._shut("paused")
            raise error
        limits = delivery.next_limits()
        try:
            if self._stack.clock.monotonic() >= limits[1]:
                raise await self._out_of_time(delivery, limits)
            chunk = await delivery.source.next(limits, delivery.cut)
        except Exception as error:
            self._end()
            delivery.broken(error)
            raise
        except BaseException:
            self._end()
            delivery.left("closed" if self._is_interrupted else "cancelled")
            raise
        return self._deliver(delivery, chunk)

    async def _run(self, road: AsyncStreamRoad, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            call = self._call = road.begin(args, kwargs, self._stack.clock.monotonic())
            value = await road.run(call)
        except BaseException:
            self._end()
            raise
        if not isinstance(value, Begun | Delivery):
            self._let_go_of_frames()
            self._substitute = _each(chunks_of(value, call))
            return await self._next_substitute()
        return self._begun(value)

    async def _next_substitute(self) -> Any:
        try:
            chunk = await anext(self._substitute, END)
        except BaseException:
            self._end()
            raise
        if chunk is END:
            self._end()
        return chunk

    async def _out_of_time(self, delivery: Delivery, limits: Published) -> Exception:
        """The error of a step that can't begin any more; the code is ended."""
        error = delivery.cut(limits)
        try:
            await delivery.source.close()
        except Exception as raised:  # noqa: BLE001 - the deadline is what the consumer must hear of
            error.__cause__ = raised
        return error

    async def _shut(self, reason: str) -> None:
        """End it before its end. Called by whoever has claimed it."""
        self._end()
        self._begin = None
        if self._delivery is not None:
            self._delivery.left(reason)
            await self._delivery.source.close()
        elif self._substitute is not None:
            await self._substitute.aclose()

    def _end(self) -> None:
        super()._end()
        if self._pause is not None:
            self._pause.cancel()

    def _look_after(self, seconds: float) -> None:
        """See in *seconds* whether the consumer has let it lie for too long."""
        loop = asyncio.get_running_loop()
        self._pause = loop.call_later(self._stack.clock.patience(seconds), _look, weakref.ref(self))

    def _look(self) -> None:
        delivery = self._delivery
        if self._is_over or delivery is None:
            return
        seconds = delivery.rest_of_pause()
        if self._reader is not None or seconds > 0:
            self._look_after(seconds if self._reader is None else delivery.timeout.max_pause or 0.0)
            return
        self._error = delivery.paused_too_long()
        self._end()
        delivery.left("paused")
        closing = asyncio.ensure_future(self._close(delivery))
        _CLOSING.add(closing)  # a loop holds its tasks weakly
        closing.add_done_callback(_CLOSING.discard)

    async def _close(self, delivery: Delivery) -> None:
        try:
            await delivery.source.close()
        except Exception:  # noqa: BLE001 - nobody waits for it
            report_trouble("%s: a stream that was closed failed to end", self.target)


#: What closes streams that were let lie.
_CLOSING: set[asyncio.Future[None]] = set()


def _look(reference: weakref.ref[AsyncStream]) -> None:
    stream = reference()
    if stream is not None:
        stream._look()


async def _each(chunks: Iterable[Any]) -> AsyncIterator[Any]:
    for chunk in chunks:
        yield chunk
