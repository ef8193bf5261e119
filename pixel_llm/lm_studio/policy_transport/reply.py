"""An answer as the stack passes it on, and the failure that carries one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from pixel_llm.errors import APIError
from pixel_llm.lm_studio.policy_transport.bodies import Rest

_READABLE_CODINGS = ("", "identity", "gzip", "deflate")
#: What belongs to a connection rather than to an answer, and can't be kept.
_KEPT_EXTENSIONS = ("http_version", "reason_phrase")
_CODING_HEADERS = (b"content-encoding", b"content-length", b"transfer-encoding")


@dataclass(frozen=True, slots=True)
class HTTPReply:
    """
    An answer as it came over the wire, independent of any library's classes. Immutable.

    This is what functions that a policy names are given: whether it is to be retried, how many tokens
    it has used.

    Attributes:
        status_code: The HTTP status.
        raw_headers: Names and values, in their order.
        body: The body, undecoded; of a stream what was read of it.
        rest: What is still to come where the body was not read to its end; such a reply can be used once.
        extensions: httpx's.
    """

    status_code: int
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""
    rest: Rest | None = None
    extensions: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, response: Any, body: bytes = b"", rest: Rest | None = None) -> HTTPReply:
        """The reply that a transport's *response* is, with what was read of its body."""
        extensions = response.extensions
        if rest is None:
            extensions = {name: extensions[name] for name in _KEPT_EXTENSIONS if name in extensions}
        return cls(response.status_code, tuple(response.headers.raw), body, rest, extensions)

    @classmethod
    def made(cls, response: Any) -> HTTPReply:
        """The reply that a user's own whole *response* is; its body counts, not how that once was coded."""
        body = response.content
        headers = tuple((name, value) for name, value in response.headers.raw if name.lower() not in _CODING_HEADERS)
        return cls(response.status_code, (*headers, (b"Content-Length", b"%d" % len(body))), body)

    @classmethod
    def of_error(cls, error: APIError) -> HTTPReply | None:
        """What a server would have answered, of an error that none has sent, such as an injected one."""
        status = error.details.get("status")
        if not isinstance(status, int) or status < 400:
            return None
        envelope = {"message": error.message, "type": "error", "param": None, "code": error.error_code.value}
        return cls.made(httpx.Response(status, json={"error": envelope}))

    @property
    def headers(self) -> httpx.Headers:
        """The headers; names ignore case."""
        return httpx.Headers(list(self.raw_headers))

    @property
    def media_type(self) -> str:
        """The media type without its parameters, in lower case; empty if none is told."""
        return media_type(self.headers)

    @property
    def content(self) -> bytes | None:
        """The body without its content coding; None if it was not read, or that can't be undone here."""
        codings = [coding.strip().lower() for coding in self.headers.get("content-encoding", "").split(",")]
        if self.rest is not None or not all(coding in _READABLE_CODINGS for coding in codings):
            return None
        try:
            return httpx.Response(self.status_code, headers=self.headers, content=self.body).content
        except httpx.DecodingError:  # the client will say so
            return None

    def json(self) -> Any:
        """The body, parsed; None if it is no JSON."""
        return parse(self.content or b"")

    @property
    def usage(self) -> Any:
        """The ``usage`` of a completion, which says how many tokens it has used; None without one."""
        document = self.json() if self.media_type == "application/json" else None
        return document.get("usage") if isinstance(document, dict) else None

    @property
    def is_cacheable(self) -> bool:
        """True if it may be kept and given again: a whole success."""
        return self.rest is None and 200 <= self.status_code < 300


class AnsweredWithError(APIError):
    """The server's answer is a failure to the policy; *reply* is that answer, for the client."""

    def __init__(self, error: APIError, reply: HTTPReply) -> None:
        super().__init__(
            error.message, error_code=error.error_code, details=error.details, retry_after=error.retry_after
        )
        self.reply = reply

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled as a plain APIError: an answer may hold what nobody wants in a queue or a file.
        restore, (_, state) = super().__reduce__()
        del state["reply"]
        return restore, (APIError, state)


def media_type(headers: Any) -> str:
    """The media type that *headers* tell, without its parameters, in lower case; empty if none is told."""
    value: str = headers.get("content-type", "")
    return value.partition(";")[0].strip().lower()


def parse(body: bytes) -> Any:
    """*body* as JSON; None if it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # not JSON, not Unicode, or nested too deep to be honest
        return None
