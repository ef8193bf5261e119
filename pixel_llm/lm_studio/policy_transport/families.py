"""
httpx and its like: a client's own library is recognised by its objects, and never imported here.

``httpx2`` has the classes of httpx under another name. A client of the one takes no streams and
raises no exceptions of the other, so requests and responses are built anew where the two meet.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import cache
from types import ModuleType
from typing import Any

import httpx

from pixel_llm.lm_studio.translation import TRANSLATED

_NAMES = ("httpx", "httpx2")

#: Names of headers and their values, as they came.
RawHeaders = Iterable[tuple[bytes, bytes]]


def family_of(thing: object) -> ModuleType | None:
    """The library that *thing*'s class, or one that it derives from, belongs to; None if it is neither's."""
    for cls in type(thing).__mro__:
        name = cls.__module__.partition(".")[0]
        if name in _NAMES:
            return sys.modules[name]
    return None


def errors_of(family: ModuleType) -> tuple[type[Exception], ...]:
    """What transports of *family* raise and :func:`~pixel_llm.lm_studio.translation.translate` understands."""
    if family is httpx:
        return TRANSLATED
    return (*TRANSLATED, family.HTTPError, family.InvalidURL, family.CookieConflict, family.StreamError)


def rebuild_request(
    request: Any, family: ModuleType, stream: Any, extensions: Mapping[str, Any], more: RawHeaders = ()
) -> Any:
    """*request* as one of *family*, with another body and other extensions; its headers stay, *more* follow."""
    url = request.url if family_of(request) is family else str(request.url)
    headers = [*request.headers.raw, *more]
    return family.Request(request.method, url, headers=headers, stream=stream, extensions=dict(extensions))


def build_response(
    family: ModuleType, status: int, headers: RawHeaders, stream: Any, extensions: Mapping[str, Any]
) -> Any:
    """A response of *family*. *stream* is one of its streams, or the whole body."""
    if isinstance(stream, bytes):
        stream = family.ByteStream(stream)
    return family.Response(status, headers=list(headers), stream=stream, extensions=dict(extensions))


@cache
def stream_class(kind: type, base: type) -> type[Any]:
    """*kind*, a body, as a stream of the family that *base* belongs to: its clients ask for their own class."""
    return type(kind.__name__, (kind, base), {})
