"""Is an answer a result, or a failure?"""

from __future__ import annotations

import re

from pixel_llm.errors import APIError
from pixel_llm.lm_studio.policy_transport.reply import HTTPReply, parse
from pixel_llm.lm_studio.replies import RawReply, error_in, nonsense_in

#: All three of LM Studio's error envelopes begin like this.
_ENVELOPE = re.compile(rb'\s*\{\s*"error"\s*:')
#: What JSON text can begin with, and what must stand at its end if it begins with a bracket.
_JSON_STARTS = b'{["-0123456789tfn'
_CLOSINGS = {b"{": b"}", b"[": b"]", b'"': b'"'}


def judge(reply: HTTPReply, address: str, secret: str | None, *, error_bodies: bool) -> APIError | None:
    """
    The error that *reply* is, or None if it is a result.

    Args:
        reply: The answer.
        address: The server's ``scheme://host:port``.
        secret: Cut out of texts that are quoted.
        error_bodies: Whether a success whose JSON reports an error, or is broken, is one.
    """
    if reply.status_code >= 400:
        text = reply.content or b""
        return error_in(RawReply(reply.status_code, reply.headers, text, address, secret), parse(text))
    if not (error_bodies and reply.is_cacheable and reply.media_type == "application/json"):
        return None
    body = reply.content
    if not body:
        return None
    raw = RawReply(reply.status_code, reply.headers, body, address, secret)
    if _ENVELOPE.match(body):
        document = parse(body)
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
