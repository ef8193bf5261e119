"""What a client above a policy sees when a call fails: its own library's exceptions, with ours as their cause."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from pixel_llm.errors import ErrorCode, ErrorFamily, PixelLMError
from pixel_llm.lm_studio.policy_transport.families import family_of

#: The key of ``response.extensions`` under which a response says how it came about.
EXTENSION = "pixel_llm"

_BY_CODE = {
    ErrorCode.ERR_CONN_TIMEOUT: "ConnectTimeout",
    ErrorCode.ERR_CONN_LOST: "ReadError",
}
_BY_FAMILY = {
    ErrorFamily.CONNECTION: "ConnectError",
    ErrorFamily.TIMEOUT: "ReadTimeout",
}


class DoubleRetryWarning(UserWarning):
    """A client above a policy retries by itself: its attempts multiply with the policy's."""


def error_behind(error: BaseException | None) -> PixelLMError | None:
    """
    The error of this package that a client's exception comes from, or None.

    httpx and the clients on top of it raise their own exceptions. Ours is what caused them, and says
    more: ``error_code``, ``attempts``, ``history``, ``retry_after``. An exception that carries a response,
    such as ``openai.RateLimitError``, leads to the error that the policy made of that response.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, PixelLMError):
            return error
        extensions = getattr(getattr(error, "response", None), "extensions", None)
        story = extensions.get(EXTENSION) if isinstance(extensions, dict) else None
        if isinstance(story, dict) and isinstance(story.get("error"), PixelLMError):
            found: PixelLMError = story["error"]
            return found
        error = error.__cause__
    return None


def as_transport_error(error: PixelLMError, family: ModuleType, request: Any = None) -> Exception:
    """
    The exception of *family* that stands for *error*: what the transport raised, else what comes nearest.

    A refusal of the stack's own (breaker, rate limit, bulkhead) is a plain ``TransportError``. The caller
    raises it ``from`` *error*.
    """
    cause = error.__cause__
    if cause is not None and family_of(cause) is not None:
        name = type(cause).__name__
    else:
        name = _BY_CODE.get(error.error_code) or _BY_FAMILY.get(error.info.family, "TransportError")
    kind = getattr(family, name, None)
    if not (isinstance(kind, type) and issubclass(kind, family.RequestError)):
        kind = family.TransportError
    made: Exception = kind(f"{error} [{error.error_code}]", request=request)
    return made
