"""What log records are about: fields that a program sets once for all that follows, in a context variable."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from types import MappingProxyType, TracebackType
from typing import Any

from pixel_llm.events.trouble import report_trouble
from pixel_llm.monitoring.logs.cleaning import clean_fields
from pixel_llm.request import Request, as_request_id, current_request_id, set_request_id

_EMPTY: Mapping[str, Any] = MappingProxyType({})

# Never changed in place: what was copied into a task or a thread stays as it was.
_fields: ContextVar[Mapping[str, Any]] = ContextVar("pixel_llm_log_context", default=_EMPTY)

#: Gives more fields, as plain and harmless data, in the thread that writes the record; must not block.
ContextSource = Callable[[], Mapping[str, Any]]

# Never changed in place: they are asked without a lock.
_sources: tuple[ContextSource, ...] = ()
_lock = threading.Lock()


def add_source(source: ContextSource) -> None:
    """
    Have *source* give fields for the context of every record from now on, below those that the program sets.

    One that raises is reported once and asked no more. Safe for concurrent use; one that is there already stays once.
    """
    global _sources
    with _lock:
        if source not in _sources:
            _sources = (*_sources, source)


def remove_source(source: ContextSource) -> None:
    """Ask *source* no more."""
    global _sources
    with _lock:
        _sources = tuple(one for one in _sources if one is not source)


def set_context(**fields: Any) -> None:
    """
    Put *fields* into the ``context`` of every record from now on, in this thread or task and in tasks it starts.

    A field that is None is taken out. ``request_id`` is the id that errors carry and LM Studio is sent as well.
    """
    if "request_id" in fields:
        set_request_id(fields.pop("request_id"))
    _fields.set(_over(_fields.get(), fields))


def current_context() -> dict[str, Any]:
    """The fields that records have in their ``context`` now, the request id among them."""
    fields = dict(own_fields())
    if (request_id := current_request_id()) is not None:
        fields["request_id"] = request_id
    return fields


def own_fields() -> Mapping[str, Any]:
    """Those of :func:`current_context` that are no request id. Must not be changed."""
    return _over_sources(_fields.get()) if _sources else _fields.get()


class LogContext:
    """
    *fields* in the ``context`` of every record inside the ``with``, as :func:`set_context` has them; for one thread.

    ::

        with LogContext(request_id="req-7", tenant="acme"):
            model.generate("photo.jpg")
    """

    def __init__(self, **fields: Any) -> None:
        self._request_id = as_request_id(fields.pop("request_id")) if fields.get("request_id") is not None else None
        self._fields = fields
        self._entered: list[tuple[Token[Mapping[str, Any]], Request | None]] = []

    def __enter__(self) -> LogContext:
        request = None if self._request_id is None else Request(self._request_id).__enter__()
        self._entered.append((_fields.set(_over(_fields.get(), self._fields)), request))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        token, request = self._entered.pop()
        # A generator that nobody reads any more is closed in another context, in which there is nothing to take back.
        with contextlib.suppress(ValueError):
            _fields.reset(token)
        if request is not None:
            request.__exit__(kind, error, traceback)


def _over_sources(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    whole: dict[str, Any] = {}
    for source in _sources:
        try:
            whole |= source()
        except Exception:  # noqa: BLE001 - whatever a source does, the record is written
            remove_source(source)
            report_trouble("%r raised, and is asked no more", source)
    return whole | dict(fields)


def _over(fields: Mapping[str, Any], more: Mapping[str, Any]) -> Mapping[str, Any]:
    # Cleaned now, not with each record: what is changed later does not change them, and records cost less.
    whole = {**fields, **clean_fields(more)}
    return {name: value for name, value in whole.items() if value is not None}
