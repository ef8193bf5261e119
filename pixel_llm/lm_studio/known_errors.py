"""
What LM Studio and servers like it say when something is wrong, and what it means.

The server's statuses do not tell: an unknown model is 400 or 404, a crash is 400,
and any of them can come with 200. So its texts are known here, in one table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pixel_llm.errors import PLAIN_STATUSES, ErrorCode, code_of_status

#: An error's text is matched up to here: the messages are short, the bodies need not be.
_MATCHED_LENGTH = 4000


@dataclass(frozen=True, slots=True)
class KnownError:
    """
    A kind of error: what it is called, how it reads, what it means.

    *names* are values of the ``code`` and ``type`` fields, *pattern* is searched for in the message,
    *advice* ends ours.
    """

    error_code: ErrorCode
    pattern: re.Pattern[str]
    names: frozenset[str] = frozenset()
    advice: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def _known(
    error_code: ErrorCode, pattern: str, *names: str, advice: str = "", details: Mapping[str, Any] | None = None
) -> KnownError:
    return KnownError(error_code, re.compile(pattern, re.IGNORECASE), frozenset(names), advice, details or {})


#: The first row whose name matches counts, else the first whose pattern does.
KNOWN_ERRORS: tuple[KnownError, ...] = (
    _known(
        ErrorCode.ERR_API_BAD_REQUEST, r"unexpected endpoint or method",
        advice="base_url should end in /v1",
    ),
    _known(
        ErrorCode.ERR_API_UNAUTHORIZED,
        r"\b(invalid|incorrect|malformed|missing|wrong)\b.{0,30}\bapi (key|token)\b"
        r"|\bapi (key|token)\b.{0,30}\brequired\b",
        "invalid_api_key", "authentication_error", "permission_error",
        advice="set lm_studio.api_key (or $LM_STUDIO_API_KEY) to a key of this server",
    ),
    _known(
        ErrorCode.ERR_API_RATE_LIMIT, r"rate limit|too many requests", "rate_limit_exceeded", "rate_limit_error",
        advice="ask less often, or wait as long as retry_after says",
    ),
    _known(
        ErrorCode.ERR_API_BAD_REQUEST,
        r"does not support (images|image input|vision)|vision add-on is not loaded|image input is not supported",
        advice="load a vision model, or send the description only (lm_studio.vision: description)",
        details={"vision": False},
    ),
    _known(
        ErrorCode.ERR_API_BAD_REQUEST,
        r"must be a base64 encoded image|\b(invalid|unsupported|failed to (decode|load)) image\b",
        advice="send the picture as PNG or JPEG",
    ),
    _known(
        ErrorCode.ERR_API_OVERLOAD, r"\bno models? (are |is )?(currently )?loaded\b",
        advice="no model is loaded in LM Studio: load one in the developer page, or turn on just-in-time loading",
    ),
    _known(
        ErrorCode.ERR_API_MODEL_NOT_FOUND,
        r"invalid model identifier|\bmodel\b.{0,200}\b(not found|does not exist)\b|\bunknown model\b",
        "model_not_found",
        advice="use a name that the server lists under /v1/models, or download the model in LM Studio",
    ),
    _known(
        ErrorCode.ERR_API_SERVER_ERROR, r"(failed to load|error loading|could not load|loading of)\b.{0,20}\bmodel"
        r"|\bmodel load(ing)?\b.{0,20}\b(failed|stopped|aborted)\b",
        "model_load_failed",
        advice="the model could not be loaded; look into LM Studio's log, it may not fit into memory",
    ),
    _known(
        ErrorCode.ERR_API_OVERLOAD, r"loading model|model is (still )?loading", "unavailable_error",
        advice="the model is still being loaded: ask again in a while",
    ),
    _known(
        ErrorCode.ERR_API_CONTEXT_LENGTH,
        r"\bn_keep\b.*\bn_ctx\b|context (length|size|window)|when context the overflows|context overflow",
        "context_length_exceeded", "exceed_context_size_error",
        advice="load the model with a longer context, shorten the prompt, or send the description only",
    ),
    _known(
        ErrorCode.ERR_API_SERVER_ERROR,
        r"\bmodel has crashed\b|\bmodel (is|was|has been) unloaded\b|\bchannel error\b|\bcompute error\b|\bexit code\b",
        advice="the model crashed or was unloaded; look into LM Studio's log",
    ),
    _known(
        ErrorCode.ERR_API_OVERLOAD, r"\boverloaded\b|\bserver (is )?busy\b|\bqueue is full\b", "overloaded_error",
        advice="send fewer calls at once",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What an error of the server means."""

    error_code: ErrorCode
    advice: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def diagnose(status: int, text: str = "", names: Iterable[str] = ()) -> Diagnosis:
    """
    Find out what the server's error means.

    Args:
        status: The HTTP status, or what an envelope that came with 200 says it should have been.
        text: The error's message.
        names: The values of the envelope's ``code`` and ``type``.
    """
    names = frozenset(names)
    known = _find(text[:_MATCHED_LENGTH], names)
    code = PLAIN_STATUSES.get(status) or (known.error_code if known else _by_class(status, names))
    if known and known.error_code is code:
        return Diagnosis(code, known.advice, known.details)
    return Diagnosis(code, _advise(status))


def _find(text: str, names: frozenset[str]) -> KnownError | None:
    by_name = next((known for known in KNOWN_ERRORS if known.names & names), None)
    return by_name or next((known for known in KNOWN_ERRORS if known.pattern.search(text)), None)


#: What to do where only the status is known.
_ADVICE = {
    401: "set lm_studio.api_key (or $LM_STUDIO_API_KEY) to a key of this server",
    403: "set lm_studio.api_key (or $LM_STUDIO_API_KEY) to a key of this server",
    404: "check that base_url ends in /v1",
    405: "check that base_url ends in /v1",
    407: "the proxy in between wants a password: put it into $HTTP_PROXY, or name the server in $NO_PROXY",
    413: "send a smaller picture",
    429: "ask less often, or wait as long as retry_after says",
    503: "wait until it has loaded, or send fewer calls at once",
}


def _advise(status: int) -> str:
    if 300 <= status < 400:
        return "base_url must be the address that the server redirects to"
    return _ADVICE.get(status, "")


def _by_class(status: int, names: frozenset[str]) -> ErrorCode:
    if status < 300 and "invalid_request_error" in names:
        return ErrorCode.ERR_API_BAD_REQUEST
    return code_of_status(status)
