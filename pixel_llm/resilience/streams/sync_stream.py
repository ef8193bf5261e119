"""Streams of the sync world: iterators run through a stack. :mod:`async_stream` is its twin."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pixel_llm.events.trouble import report_trouble
from pixel_llm.resilience.limits import Published
from pixel_llm.resilience.streams.delivery import END, Delivery
from pixel_llm.resilience.streams.later import LATER
from pixel_llm.resilience.streams.stream import Begun, Stream, chunks_of

if TYPE_CHECKING:
    from pixel_llm.resilience.streams.sync_stream_road import SyncStreamRoad


class SyncStream(Stream, Iterator[Any]):
    """
    An iterator over the chunks of a guarded stream, and a context manager that closes it.

    It may be read in any thread, by one at a time, and closed by any.
    """

    def __init__(self, road: SyncStreamRoad, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(road.stack)
        self._begin: Callable[[], Any] | None = functools.partial(self._run, road, args, kwargs)
        self._busy = threading.Lock()
        self._reader: int | None = None
        self._shall_close = False

    def __enter__(self) -> SyncStream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __next__(self) -> Any:
        """
        The next chunk.

        Raises:
            RuntimeError: If another thread is reading.
            LimitExceeded: If the stream was closed meanwhile, since it had not been read for `max_pause`.
            Exception: What the stream failed of, once; see :meth:`Delivery.broken`.
        """
        if not self._claim():
            raise StopIteration
        try:
            chunk = self._next()
        finally:
            self._let_go()
        if chunk is END:
            self._is_over = True
            raise StopIteration
        self._chunks += 1
        return chunk

    def close(self) -> None:
        """
        End the stream, at any moment; the breaker is neutral to that.

        While another thread reads, it ends as soon as that has its chunk.
        """
        self._shall_close = True
        self._close_if_idle()

    def _claim(self) -> bool:
        """Read it; False if there is nothing more to read, since somebody is closing it."""
        if not self._busy.acquire(blocking=False):
            if self._reader is not None:
                if self._shall_close:
                    return False
                raise RuntimeError(f"the stream of {self.target} is being read by another thread, or by its own code")
            self._busy.acquire()  # somebody looks whether it has been lying for too long
        self._reader = threading.get_ident()
        return True

    def _let_go(self) -> None:
        self._reader = None
        self._busy.release()
        if self._shall_close:
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        while not self._is_over and self._busy.acquire(blocking=False):
            self._reader = threading.get_ident()
            try:
                self._shut("closed")
            finally:
                self._reader = None
                self._busy.release()

    def _next(self) -> Any:
        self._raise_error()
        if self._is_over:
            return END
        if self._begin is not None:
            begin, self._begin = self._begin, None
            return begin()
        delivery = self._delivery
        if delivery is None:
            return self._next_substitute()
        if delivery.rest_of_pause() <= 0:
            error = delivery.paused_too_long()
            self._shut("paused")
            raise error
        limits = delivery.next_limits()
        try:
            if self._stack.clock.monotonic() >= limits[1]:
                raise self._out_of_time(delivery, limits)
            chunk = delivery.source.next(limits, delivery.cut)
        except Exception as error:
            self._end()
            delivery.broken(error)
            raise
        except BaseException:
            self._end()
            delivery.left("cancelled")
            raise
        return self._deliver(delivery, chunk)

    def _run(self, road: SyncStreamRoad, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            call = self._call = road.begin(args, kwargs, self._stack.clock.monotonic())
            value = road.run(call)
        except BaseException:
            self._end()
            raise
        if not isinstance(value, Begun | Delivery):
            self._let_go_of_frames()
            self._substitute = iter(chunks_of(value, call))
            return self._next_substitute()
        return self._begun(value)

    def _next_substitute(self) -> Any:
        try:
            chunk = next(self._substitute, END)
        except BaseException:
            self._end()
            raise
        if chunk is END:
            self._end()
        return chunk

    def _out_of_time(self, delivery: Delivery, limits: Published) -> Exception:
        """The error of a step that can't begin any more; the code is ended."""
        error = delivery.cut(limits)
        try:
            delivery.source.close(delivery.closing_ends())
        except Exception as raised:  # noqa: BLE001 - the deadline is what the consumer must hear of
            error.__cause__ = raised
        return error

    def _shut(self, reason: str) -> None:
        """End it before its end. Called by whoever has claimed it."""
        if self._is_over:
            return
        self._end()
        self._begin = None
        if self._delivery is not None:
            self._delivery.left(reason)
            self._delivery.source.close(self._delivery.closing_ends())
        elif self._substitute is not None and hasattr(self._substitute, "close"):
            self._substitute.close()

    def _look_after(self, seconds: float) -> None:
        """See in *seconds* whether the consumer has let it lie for too long."""
        LATER.after(self._stack.clock.patience(seconds), functools.partial(_look, weakref.ref(self)))

    def _look(self) -> None:
        delivery = self._delivery
        if self._is_over or delivery is None:
            return
        seconds, is_closed = delivery.timeout.max_pause or 0.0, False
        if self._busy.acquire(blocking=False):  # else somebody is reading
            try:
                seconds = delivery.rest_of_pause()
                if seconds <= 0 and not self._is_over:
                    self._error = delivery.paused_too_long()
                    self._end()
                    delivery.left("paused")
                    is_closed = True
            finally:
                self._busy.release()
        if not is_closed:
            self._look_after(max(0.0, seconds))
        else:
            try:
                delivery.source.close(delivery.closing_ends())
            except Exception:  # noqa: BLE001 - nobody waits for it
                report_trouble("%s: a stream that was closed failed to end", self.target)


def _look(reference: weakref.ref[SyncStream]) -> None:
    stream = reference()
    if stream is not None:
        stream._look()
