"""Spans under way: which one the running code is part of, and that none of them can harm a call."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from itertools import count
from typing import Any

from pixel_llm.events.trouble import report_trouble
from pixel_llm.resilience.streams.later import LATER
from pixel_llm.resilience.tracing.tracer import RequestSpan, Span, Tracer

_current: ContextVar[LiveSpan | None] = ContextVar("pixel_llm_span", default=None)


class Result:
    """What a span ends in, put there by the code that is part of it."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Any = None


class Ending:
    """
    Something that ends once, and what began inside of it and was left: that ends with it.

    A generator may be closed wherever garbage is collected, also inside of the code that takes spans, which may hold a
    lock then. So what a closed generator was part of ends later, with what is around it, or in a thread.
    """

    __slots__ = ("_around", "_claims", "_has_ended", "_left")

    def __init__(self, around: Ending | None) -> None:
        self._around = around
        self._left: list[Callable[[], object]] = []
        self._claims = count()  # one step of it is a single operation of the interpreter
        self._has_ended = False

    def leave(self, end: Callable[[], object]) -> None:
        """Call *end* when what is around this ends. Takes no lock that a finaliser might wait for."""
        around = self._around
        if around is None:
            LATER.soon(end)
            return
        around._left.append(end)
        if around._has_ended:  # before, or meanwhile
            LATER.soon(around._end_those_left)

    def _claim(self) -> bool:
        """True for the first who asks: it ends it. What began inside has ended then."""
        is_first = next(self._claims) == 0
        self._has_ended = True
        self._end_those_left()
        return is_first

    def _end_those_left(self) -> None:
        while self._left:
            try:
                end = self._left.pop()
            except IndexError:  # another thread has ended it
                return
            end()


class LiveSpan(Ending):
    """A *span* of somebody's, which may raise. Of those that the running code is in, :func:`current` is the last."""

    __slots__ = ("_span",)

    def __init__(self, span: Span | None, around: LiveSpan | None) -> None:
        super().__init__(around)
        self._span = span

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """The body is part of it. So may be another one later, and one of another thread."""
        token, entered = _current.set(self), _try(self._span, "enter")
        try:
            yield
        finally:
            # Code that is closed may be so in another context, or inside of something else: there is nothing to take
            # back then.
            if _current.get() is self:
                with contextlib.suppress(ValueError):
                    _current.reset(token)
                    if entered is not None:
                        _try(self._span, "leave", entered)

    @contextlib.contextmanager
    def whole(self) -> Iterator[Result]:
        """It lasts as long as the body, which says what it ends in."""
        result = Result()
        try:
            with self.inside():
                yield result
        except GeneratorExit:
            self.leave(lambda: self.end(None, GeneratorExit()))
            raise
        except BaseException as error:
            self.end(None, error)
            raise
        self.end(result.value, None)

    @contextlib.contextmanager
    def opening(self) -> Iterator[None]:
        """Its first part: it ends here only if the body raises."""
        try:
            with self.inside():
                yield
        except BaseException as error:
            self.end(None, error)
            raise

    def attempt(self, target: str) -> LiveSpan:
        """An attempt of it."""
        return LiveSpan(_try(self._span, "attempt", target), self)

    def chunk(self, chunk: Any) -> None:
        """Its stream has delivered a chunk."""
        _try(self._span, "chunk", chunk)

    def end(self, result: Any, error: BaseException | None) -> None:
        """It has ended, unless it had before."""
        if self._claim():
            _try(self._span, "end", result, error)

    @contextlib.contextmanager
    def request(self, method: str, url: str) -> Iterator[Sent]:
        """An HTTP request from its sending to the end of its answer."""
        span = _try(self._span, "request", method, url)
        ending = Ending(self)
        try:
            yield Sent(span)
        except GeneratorExit:
            ending.leave(lambda: _try(span, "end", None))
            raise
        except BaseException as error:
            _try(span, "end", error)
            raise
        _try(span, "end", None)


class Sent:
    """A request, for whoever sends it."""

    __slots__ = ("_span",)

    def __init__(self, span: RequestSpan | None) -> None:
        self._span = span

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What goes with it, as it goes over the wire."""
        return _try(self, "_headers") or []

    def answered(self, status: int) -> None:
        """The headers of the answer have come."""
        _try(self._span, "answered", status)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        if self._span is None:
            return []
        return [(name.encode("ascii"), text.encode("ascii")) for name, text in self._span.headers.items()]


#: A request that nobody sees.
_UNSEEN = contextlib.nullcontext(Sent(None))


def traced_request(method: str, url: str) -> contextlib.AbstractContextManager[Sent]:
    """An HTTP request that the running code makes, from its sending to the end of its answer."""
    around = current()
    return _UNSEEN if around is None else around.request(method, url)


def current() -> LiveSpan | None:
    """What the running code is part of, if somebody sees it."""
    return _current.get()


def begin(tracer: Tracer, target: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LiveSpan:
    """A call begins."""
    LATER.start()  # ends what is dropped
    return LiveSpan(_try(tracer, "call", target, args, kwargs), current())


#: Whose trouble has been reported.
_reported: set[type] = set()


def _try(whose: Any, method: str, *args: Any) -> Any:
    """What a *method* gives; None if it raises, which is reported once for each class, or if there is nobody."""
    if whose is None:
        return None
    try:
        return getattr(whose, method)(*args)
    except Exception:  # noqa: BLE001 - whatever a tracer does, the call goes on
        if type(whose) not in _reported:
            _reported.add(type(whose))
            report_trouble("%r raised; this is reported once", whose)
        return None
