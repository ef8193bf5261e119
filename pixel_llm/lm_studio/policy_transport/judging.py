"""An HTTP response as a policy sees it: a result, or a failure that carries the response."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from pixel_llm.errors import APIError
from pixel_llm.lm_studio.policy_transport.bodies import Rest
from pixel_llm.lm_studio.replies import RawReply, error_in, nonsense_in

#: All three of LM Studio's error envelopes begin like this.
_ENVELOPE = re.compile(rb'\s*\{\s*"error"\s*:')
#: What JSON text can begin with, and what must stand at its end if it begins with a bracket.
_JSON_STARTS = b'{["-0123456789tfn'
_CLOSINGS = {b"{": b"}", b"[": b"]", b'"': b'"'}
_READABLE_CODINGS = ("", "identity", "gzip", "deflate")
#: What belongs to a connection rather than to an answer, and can't be kept.
_KEPT_EXTENSIONS = ("http_version", "reason_phrase")
_CODING_HEADERS = (b"content-encoding", b"content-length", b"transfer-encoding")


@dataclass(frozen=True, slots=True)
class Reply:
    """
    An answer as it came over the wire: undecoded, and independent of any library's classes. Immutable.

    *rest* is what is still to come where the body was not read to its end; such a reply can be used once.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""
    rest: Rest | None = None
    extensions: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, response: Any, body: bytes = b"", rest: Rest | None = None) -> Reply:
        """The reply that a transport's *response* is, with what was read of its body."""
        extensions = response.extensions
        if rest is None:
            extensions = {name: extensions[name] for name in _KEPT_EXTENSIONS if name in extensions}
        return cls(response.status_code, tuple(response.headers.raw), body, rest, extensions)

    @classmethod
    def made(cls, response: Any) -> Reply:
        """The reply that a user's own whole *response* is; its body counts, not how that once was coded."""
        body = response.content
        headers = tuple((name, value) for name, value in response.headers.raw if name.lower() not in _CODING_HEADERS)
        return cls(response.status_code, (*headers, (b"Content-Length", b"%d" % len(body))), body)

    @property
    def is_cacheable(self) -> bool:
        """True if it may be kept and given again: a whole success."""
        return self.rest is None and 200 <= self.status < 300


class AnsweredWithError(APIError):
    """The server's answer is a failure to the policy; *reply* is that answer, for the client."""

    def __init__(self, error: APIError, reply: Reply) -> None:
        super().__init__(
            error.message, error_code=error.error_code, details=error.details, retry_after=error.retry_after
        )
        self.reply = reply

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled as a plain APIError: an answer may hold what nobody wants in a queue or a file.
        restore, (_, state) = super().__reduce__()
        del state["reply"]
        return restore, (APIError, state)


def judge(reply: Reply, address: str, secret: str | None, *, error_bodies: bool) -> APIError | None:
    """
    The error that *reply* is, or None if it is a result.

    Args:
        reply: The answer.
        address: The server's ``scheme://host:port``.
        secret: Cut out of texts that are quoted.
        error_bodies: Whether a success whose JSON reports an error, or is broken, is one.
    """
    headers = httpx.Headers(list(reply.headers))
    if reply.status >= 400:
        text = _decoded(reply, headers) or b""
        return error_in(RawReply(reply.status, headers, text, address, secret), _parsed(text))
    if not error_bodies or reply.rest is not None or not 200 <= reply.status < 300:
        return None
    body = _decoded(reply, headers) if media_type(headers) == "application/json" else None
    if not body:
        return None
    raw = RawReply(reply.status, headers, body, address, secret)
    if _ENVELOPE.match(body):
        document = _parsed(body)
        if isinstance(document, dict) and document["error"]:
            return error_in(raw, document)
    return nonsense_in(raw, "is not JSON, or was cut off") if _is_broken(body) else None


def _is_broken(body: bytes) -> bool:
    """True if *body* surely isn't JSON. Parsing all of a large answer would cost more than it finds."""
    if body[:1] >= b"\x80" or b"\0" in body[:4]:  # a byte order mark, or another encoding than UTF-8
        return False
    body = body.strip()
    start = body[:1]
    return bool(body) and (start not in _JSON_STARTS or body[-1:] != _CLOSINGS.get(start, body[-1:]))


def _decoded(reply: Reply, headers: httpx.Headers) -> bytes | None:
    """The body without its content coding; None if that can't be undone here."""
    codings = [coding.strip().lower() for coding in headers.get("content-encoding", "").split(",")]
    if not all(coding in _READABLE_CODINGS for coding in codings):
        return None
    try:
        return httpx.Response(reply.status, headers=list(reply.headers), content=reply.body).content
    except httpx.DecodingError:  # the client will say so
        return None


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def media_type(headers: httpx.Headers) -> str:
    """The media type without its parameters, in lower case; empty if none is told."""
    value: str = headers.get("content-type", "")
    return value.partition(";")[0].strip().lower()
