"""Which request is being served: an id for logs, errors and servers, in a context variable."""

from __future__ import annotations

import contextlib
import os
import re
from contextvars import ContextVar, Token
from types import TracebackType

#: No request id is longer, in characters; one that is gets cut.
LONGEST_ID = 128

# It goes into a header as it is, and into logs that people read.
_UNUSUAL = re.compile(r"[^A-Za-z0-9._:/+=@~-]")

_current: ContextVar[str | None] = ContextVar("pixel_llm_request_id", default=None)


def current_request_id() -> str | None:
    """The id of the request that the running code serves, or None."""
    return _current.get()


def set_request_id(request_id: object) -> None:
    """
    From now on the running code, and what it starts, serves the request *request_id*; None serves none.

    Characters that have no business in a header become ``_``, and what is longer than 128 characters is cut.
    """
    _current.set(None if request_id is None else as_request_id(request_id))


def as_request_id(given: object) -> str | None:
    """*given* in the form that a request id has; None if nothing is left of it."""
    try:
        text = str(given)
    except Exception:  # noqa: BLE001 - an id is never worth a failed request
        return None
    return _UNUSUAL.sub("_", text[:LONGEST_ID]) or None


class Request:
    """
    A request that is served inside the ``with``; to be entered once.

    Args:
        request_id: Its id; without one, that of the request which is being served, else a fresh one.

    Attributes:
        id: The id.
    """

    __slots__ = ("_token", "id")

    def __init__(self, request_id: str | None = None) -> None:
        self.id = request_id or _current.get() or os.urandom(8).hex()

    def part(self, number: int) -> Request:
        """The request for one of several things that this one is about."""
        end = f".{number}"
        return Request(self.id[: LONGEST_ID - len(end)] + end)

    def __enter__(self) -> Request:
        self._token: Token[str | None] = _current.set(self.id)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A generator that nobody reads any more is closed in another context, in which there is nothing to take back.
        with contextlib.suppress(ValueError):
            _current.reset(self._token)
