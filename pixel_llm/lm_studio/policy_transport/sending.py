"""What is to be known of a request before it is sent, and of sending it again."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import math
import re
from collections.abc import Hashable, Mapping
from typing import Any

import httpx

from pixel_llm.lm_studio.policy_transport.families import family_of
from pixel_llm.lm_studio.policy_transport.reading import LARGEST_HELD_BODY
from pixel_llm.request import current_request_id

#: Headers that say nothing about the answer. All others tell answers apart: a tenant's header that is
#: not known here costs a miss in the cache, never an answer meant for somebody else.
_PASSING_HEADERS = re.compile(
    r"x-stainless-.*|user-agent|traceparent|tracestate|baggage|x-request-id|date|content-length|connection|idempotency-key"
)
_ASKS_FOR_STREAM = re.compile(rb'"stream"\s*:\s*true')
#: Headers that log in somewhere, the most usual first.
CREDENTIALS = ("authorization", "api-key", "x-api-key", "cookie")


def held_body(request: Any) -> bytes | None:
    """The request's body if it is in memory, so that it can be sent again."""
    try:
        body: bytes = request.content
    except (family_of(request) or httpx).RequestNotRead:
        return None
    return body


def is_bearable(request: Any) -> bool:
    """True if the body may be read into memory: its length is told, and not too much."""
    length = request.headers.get("content-length", "")
    return length.isdecimal() and int(length) <= LARGEST_HELD_BODY


def request_id_headers(request: Any) -> list[tuple[bytes, bytes]]:
    """What tells the server which request is being served; nothing if none is, or *request* says it itself."""
    request_id = current_request_id()
    if request_id is None or "x-request-id" in request.headers:
        return []
    return [(b"X-Request-ID", request_id.encode("ascii"))]


def is_spent(prepared: Any) -> bool:
    """True if the body may have been sent, and can't be sent again."""
    return getattr(prepared.stream, "spent", False)


def shortened(timeouts: Mapping[str, float | None], remaining: float, connect: float | None) -> dict[str, float]:
    """Httpx's *timeouts*, none longer than the seconds that remain."""
    left = max(remaining, 0.001)  # a socket takes 0 for "do not block"
    ends = {name: min(timeouts.get(name) or math.inf, left) for name in ("connect", "read", "write", "pool")}
    return ends | {"connect": min(ends["connect"], connect or math.inf)}


def secrets_of(request: Any) -> tuple[str, ...]:
    """What the request logs in with: keys, and the password in what HTTP's basic authorization says."""
    said = [value for name in CREDENTIALS if (value := request.headers.get(name))]
    secrets = [value.rpartition(" ")[2] for value in said]
    for value, secret in zip(said, list(secrets), strict=True):
        if value.lower().startswith("basic "):
            with contextlib.suppress(ValueError):  # it is none
                secrets.append(base64.b64decode(secret).decode().partition(":")[2])
    return tuple(secrets)


def fingerprint(request: Any) -> Hashable:
    """
    The key of a request in caches: method, URL, body and headers, the credentials among them, as a hash.

    What streams is never the same: an answer that is still to come serves one caller only.
    """
    body = held_body(request)
    if body is None or _ASKS_FOR_STREAM.search(body) or "event-stream" in request.headers.get("accept", ""):
        return ("http", object())
    headers = sorted(
        (name, value) for name, value in request.headers.multi_items() if not _PASSING_HEADERS.fullmatch(name.lower())
    )
    said = repr((request.method, str(request.url), headers)).encode()
    return ("http", hashlib.sha256(said + b"\0" + body).hexdigest())
