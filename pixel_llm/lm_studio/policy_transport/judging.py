"""Is an answer a result, or a failure?"""

from __future__ import annotations

import re

from pixel_llm.errors import APIError
from pixel_llm.lm_studio.asked import Asked
from pixel_llm.lm_studio.policy_transport.reply import HTTPReply, parse
from pixel_llm.lm_studio.replies import RawReply, error_in, nonsense_in

#: All three of LM Studio's error envelopes begin like this.
_ENVELOPE = re.compile(rb'\s*\{\s*"error"\s*:')
#: What JSON text can begin with, and what must stand at its end if it begins with a bracket.
_JSON_STARTS = b'{["-0123456789tfn'
_CLOSINGS = {b"{": b"}", b"[": b"]", b'"': b'"'}
EVENT_STREAM = "text/event-stream"
#: LM Studio reports what goes wrong before the first token as the first event of a healthy stream.
_ERROR_EVENT = re.compile(rb'\s*(event:\s*error\b|data:\s*\{\s*"error"\s*:)')
_DATA = re.compile(rb"^data:(.*)$", re.MULTILINE)


def may_be_error_event(beginning: bytes | bytearray) -> bool:
    """True if an event stream that begins like this is over, or about to report an error."""
    return not beginning or _ERROR_EVENT.match(beginning) is not None


def judge(
    reply: HTTPReply, address: str, secrets: tuple[str, ...], asked: Asked, *, error_bodies: bool
) -> APIError | None:
    """
    The error that *reply* is, or None if it is a result.

    Args:
        reply: The answer.
        address: The server's ``scheme://host:port``.
        secrets: Cut out of texts that are quoted.
        asked: What was asked, cut out as well.
        error_bodies: Whether a success whose JSON reports an error, or is broken, is one.
    """
    if reply.status_code >= 400:
        text = reply.content or b""
        return error_in(RawReply(reply.status_code, reply.headers, text, address, secrets, asked), parse(text))
    if not (error_bodies and reply.is_cacheable):
        return None
    raw = RawReply(reply.status_code, reply.headers, reply.content or b"", address, secrets, asked)
    if reply.media_type == "application/json":
        return _error_in_json(raw)
    return _error_in_events(raw) if reply.media_type == EVENT_STREAM else None


def _error_in_json(raw: RawReply) -> APIError | None:
    body = raw.body
    if not body:
        return None
    if _ENVELOPE.match(body):
        document = parse(body)
        if isinstance(document, dict) and document["error"]:
            return error_in(raw, document)
    return nonsense_in(raw, "is not JSON, or was cut off") if _is_broken(body) else None


def _error_in_events(raw: RawReply) -> APIError | None:
    """What is wrong with a stream that was read to its end because it began with an error, or not at all."""
    if not raw.body.strip():
        return nonsense_in(raw, "is a stream without events")
    data = _DATA.search(raw.body)
    document = parse(data[1]) if data else None
    if not isinstance(document, dict) or document.get("error") or document.get("message"):
        return error_in(raw, document)
    return None


def _is_broken(body: bytes) -> bool:
    """True if *body* surely isn't JSON. Parsing all of a large answer would cost more than it finds."""
    if body[:1] >= b"\x80" or b"\0" in body[:4]:  # a byte order mark, or another encoding than UTF-8
        return False
    body = body.strip()
    start = body[:1]
    return bool(body) and (start not in _JSON_STARTS or body[-1:] != _CLOSINGS.get(start, body[-1:]))
