"""Every exception of httpx and httpcore becomes one of ours, at this edge and nowhere else."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from pixel_llm.errors import APIError, ConnectionError, ErrorCode, PixelLMError, TimeoutError, ValidationError
from pixel_llm.resilience.limits import current_limits

#: For ``except TRANSLATED as error: raise translate(error, address) from error``. Cancellation,
#: KeyboardInterrupt and mistakes in the program are not among them.
TRANSLATED: tuple[type[Exception], ...] = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.CookieConflict,
    httpx.StreamError,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    httpcore.ConnectionNotAvailable,
)


@dataclass(frozen=True, slots=True)
class _Rule:
    """What an exception becomes; ``{address}`` and ``{reason}`` are filled in."""

    error_type: type[PixelLMError]
    error_code: ErrorCode
    message: str

    def build(self, address: str, reason: str = "") -> PixelLMError:
        message = self.message.format(address=address, reason=reason)
        details: dict[str, Any] = {"url": address}
        error = self.error_type(message, error_code=self.error_code, details=details)
        _, _, advice = self.message.format(address="", reason="").partition("; ")
        if advice:
            error.advice = advice
        return error


_REFUSED = _Rule(
    ConnectionError, ErrorCode.ERR_CONN_REFUSED,
    "cannot connect to {address}: connection refused;"
    " start LM Studio's server (Developer page, or lms server start)",
)  # fmt: skip
_REFUSED_BY_PROXY = _Rule(
    ConnectionError, ErrorCode.ERR_CONN_REFUSED,
    "cannot connect to {address}: the proxy {reason} refuses connections;"
    " start it, or name the server in $NO_PROXY",
)  # fmt: skip
_PLAIN_HTTP = _Rule(
    ConnectionError, ErrorCode.ERR_CONN_UNAVAILABLE,
    "cannot connect to {address}{reason}; it seems to speak plain HTTP, without TLS: write http:// in base_url",
)  # fmt: skip
_UNREACHABLE = _Rule(ConnectionError, ErrorCode.ERR_CONN_UNAVAILABLE, "cannot connect to {address}{reason}")
_CONNECT_TIMEOUT = _Rule(
    TimeoutError, ErrorCode.ERR_CONN_TIMEOUT, "no connection to {address} was made in time; check that the host is up"
)
_LOST = _Rule(
    ConnectionError, ErrorCode.ERR_CONN_LOST,
    "the connection to {address} broke before the answer was complete{reason}",
)  # fmt: skip
_NO_ANSWER = _Rule(
    TimeoutError, ErrorCode.ERR_TIMEOUT_RESPONSE,
    "{address} did not answer in time; it may be loading the model or have a queue",
)  # fmt: skip
_SILENT = _Rule(
    TimeoutError,
    ErrorCode.ERR_TIMEOUT_IDLE,
    "{address} fell silent in the middle of a stream; look whether it still generates",
)
_NOT_SENT = _Rule(TimeoutError, ErrorCode.ERR_TIMEOUT_RESPONSE, "{address} did not take the whole request in time")
_NO_SLOT = _Rule(TimeoutError, ErrorCode.ERR_TIMEOUT_REQUEST, "no connection to {address} became free in time")
_DEADLINE = _Rule(
    TimeoutError, ErrorCode.ERR_TIMEOUT_DEADLINE, "the deadline passed while {address} was being waited for"
)
_NOT_HTTP = _Rule(
    APIError, ErrorCode.ERR_API_INVALID_RESPONSE,
    "{address} does not answer in HTTP{reason}; check that base_url leads to LM Studio's server",
)  # fmt: skip
_UNDECODABLE = _Rule(
    APIError, ErrorCode.ERR_API_INVALID_RESPONSE, "the answer of {address} is compressed in a way that cannot be read"
)
_ASTRAY = _Rule(
    APIError, ErrorCode.ERR_API_INVALID_RESPONSE, "{address} sends the request elsewhere instead of answering"
)
_UNSENDABLE = _Rule(
    APIError, ErrorCode.ERR_API_BAD_REQUEST, "the request to {address} cannot be written as HTTP{reason}"
)
_BAD_URL = _Rule(
    ValidationError, ErrorCode.ERR_VAL_INVALID_RANGE,
    "base_url must be an http:// or https:// address such as http://127.0.0.1:1234/v1",
)  # fmt: skip

#: httpx and httpcore call the same thing by the same name. The first name along the exception's MRO counts.
_RULES: dict[str, _Rule] = {
    "ConnectTimeout": _CONNECT_TIMEOUT,
    "WriteTimeout": _NOT_SENT,
    "PoolTimeout": _NO_SLOT,
    "TimeoutException": _NO_ANSWER,
    "ConnectError": _UNREACHABLE,
    "ProxyError": _UNREACHABLE,
    "NetworkError": _LOST,
    "LocalProtocolError": _UNSENDABLE,
    "ProtocolError": _LOST,
    "ConnectionNotAvailable": _LOST,
    "StreamError": _LOST,
    "UnsupportedProtocol": _BAD_URL,
    "InvalidURL": _BAD_URL,
    "DecodingError": _UNDECODABLE,
    "TooManyRedirects": _ASTRAY,
    "HTTPStatusError": _ASTRAY,
    "CookieConflict": _ASTRAY,
    "HTTPError": _LOST,
}
#: The clients of policies may bring httpx2, whose exceptions have the same names.
_LIBRARIES = frozenset({"httpx", "httpcore", "httpx2", "httpcore2"})
#: How h11 says that the server hung up. All else that it complains about is not HTTP.
_HUNG_UP = re.compile("disconnected|closed connection|ConnectionClosed")
#: How OpenSSL calls an answer that is no TLS, in its versions.
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})
_NOISE = re.compile(r"^(\[Errno -?\d+\]|\[[A-Z0-9_]+: [A-Z0-9_]+\]) | \(_ssl\.c:\d+\)$")


def translate(error: Exception, address: str, *, in_stream: bool = False, proxy: str | None = None) -> PixelLMError:
    """
    Make *error*, one of :data:`TRANSLATED`, an exception of ours; the caller raises it ``from`` *error*.

    A timeout is the deadline's if :func:`current_limits` says that the deadline has passed.

    Args:
        error: What httpx or httpcore raised.
        address: ``scheme://host:port`` of the server, for the message. Must hold no credentials.
        in_stream: Whether some of a stream has been given already.
        proxy: The address of the proxy in between, for the message; None without one.
    """
    rule = _find_rule(error)
    if issubclass(rule.error_type, TimeoutError) and current_limits().deadline_passed():
        return _DEADLINE.build(address)
    if in_stream and rule is _NO_ANSWER:
        return _SILENT.build(address)
    if rule is _UNREACHABLE:
        causes = list(_causes(error))
        if any(isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED for cause in causes):
            if proxy is None:
                return _REFUSED.build(address)
            return _REFUSED_BY_PROXY.build(address, proxy)
        reason = next((str(cause) for cause in reversed(causes) if isinstance(cause, OSError)), str(error))
        if any(getattr(cause, "reason", None) in _NO_TLS for cause in causes):
            return _PLAIN_HTTP.build(address, _explain(reason))
        way = f" through the proxy {proxy}" if proxy else ""
        return rule.build(address, way + _explain(reason))
    return rule.build(address, _explain(str(error)) if "{reason}" in rule.message else "")


def _find_rule(error: Exception) -> _Rule:
    names = [cls.__name__ for cls in type(error).__mro__ if cls.__module__.partition(".")[0] in _LIBRARIES]
    if "RemoteProtocolError" in names and str(error) and not _HUNG_UP.search(str(error)):
        return _NOT_HTTP
    return next((_RULES[name] for name in names if name in _RULES), _LOST)


def _explain(reason: str) -> str:
    reason = " ".join(_NOISE.sub("", reason).split())[:200].strip(". ")
    return f": {reason}" if reason else ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """
    Yield *error* and all that led to it, outermost first.

    httpcore cuts the chain of causes (``raise … from None``) but keeps what it was as its
    argument; anyio bundles the failures of several addresses in a group. Contexts are left
    out: that of a second attempt may be the first attempt's error.
    """
    todo, seen = [error], set[int]()
    while todo:
        cause = todo.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        group = cause.exceptions if isinstance(cause, BaseExceptionGroup) else ()
        nearby = (cause.__cause__, *cause.args, *group)
        todo += [other for other in nearby if isinstance(other, BaseException)]
