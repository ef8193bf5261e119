"""Reading an answer: all of it within the attempt, or its headers only where its body may be a stream."""

from __future__ import annotations

from typing import Any

import httpx

from pixel_llm.errors import APIError
from pixel_llm.lm_studio.policy_transport.bodies import Pace, Rest
from pixel_llm.lm_studio.policy_transport.judging import EVENT_STREAM, may_be_error_event
from pixel_llm.lm_studio.policy_transport.reply import HTTPReply, media_type
from pixel_llm.lm_studio.replies import RawReply, nonsense_in

#: Bodies of up to this many bytes are held in memory: answers, so that a broken one fails its attempt, and
#: requests, so that they can be sent again.
LARGEST_HELD_BODY = 16 * 1024 * 1024


def read(response: Any, pace: Pace, *, error_bodies: bool) -> HTTPReply:
    """
    Read what belongs to the attempt of *response*.

    Args:
        response: What a transport gave.
        pace: How long the rest may take.
        error_bodies: Whether an event stream is to be looked into for an error at its beginning.
    """
    try:
        chunks = iter(response.stream)
        body = bytearray()
        held = _is_held(response.status_code, response.headers)
        if not held and error_bodies and media_type(response.headers) == EVENT_STREAM:
            body += next(filter(None, chunks), b"")
            held = may_be_error_event(body)
        if not held:
            return HTTPReply.of(response, rest=Rest(bytes(body), chunks, response, pace))
        for chunk in chunks:
            body += chunk
            if len(body) > LARGEST_HELD_BODY:
                return _beyond(body, chunks, response, pace)
    except BaseException:
        response.close()
        raise
    response.close()
    return HTTPReply.of(response, bytes(body))


async def read_async(response: Any, pace: Pace, *, error_bodies: bool) -> HTTPReply:
    """The async twin of :func:`read`."""
    try:
        chunks = aiter(response.stream)
        body = bytearray()
        held = _is_held(response.status_code, response.headers)
        if not held and error_bodies and media_type(response.headers) == EVENT_STREAM:
            while not body and (chunk := await anext(chunks, None)) is not None:
                body += chunk
            held = may_be_error_event(body)
        if not held:
            return HTTPReply.of(response, rest=Rest(bytes(body), chunks, response, pace))
        async for chunk in chunks:
            body += chunk
            if len(body) > LARGEST_HELD_BODY:
                return _beyond(body, chunks, response, pace)
    except BaseException:
        await response.aclose()
        raise
    await response.aclose()
    return HTTPReply.of(response, bytes(body))


def _beyond(body: bytearray, chunks: Any, response: Any, pace: Pace) -> HTTPReply:
    """The reply of which no more can be held: it streams on, unless it is an error."""
    if response.status_code >= 400:
        raise _too_long(response, pace.address)
    return HTTPReply.of(response, rest=Rest(bytes(body), chunks, response, pace))


def _is_held(status: int, headers: httpx.Headers) -> bool:
    """
    True if the body is to be read before the attempt ends.

    Errors, JSON and bodies of a known, bearable length are; event streams and everything
    else that may be a stream are not. Of an event stream only its beginning is looked into.
    """
    kind = media_type(headers)
    if status >= 400 or kind == "application/json":
        return True
    length = headers.get("content-length", "")
    return kind != EVENT_STREAM and length.isdecimal() and int(length) <= LARGEST_HELD_BODY


def _too_long(response: Any, address: str) -> APIError:
    """The error of an error page without end."""
    raw = RawReply(response.status_code, httpx.Headers(response.headers.raw), b"", address)
    return nonsense_in(raw, f"is an error ({response.status_code}) of more than {LARGEST_HELD_BODY} bytes")
