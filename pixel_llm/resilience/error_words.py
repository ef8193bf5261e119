"""An error in the words of events and histories: its code, its text, and the layer that it comes from."""

from __future__ import annotations

from pixel_llm.errors import CircuitBreakerOpen, ErrorCode, LimitExceeded, PixelLMError, classify_error

_LONGEST_TEXT = 500


def code_of(error: Exception) -> ErrorCode | None:
    """The code that *error* has, or would have as one of ours."""
    return classify_error(error).error_code


def text_of(error: Exception) -> str:
    """What *error* says, shortened; never fails."""
    try:
        text = error.message if isinstance(error, PixelLMError) else f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - somebody else's __str__ may fail; the error is raised all the same
        text = f"{type(error).__name__}: <its text failed>"
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


def refused_by(error: Exception) -> tuple[str, str]:
    """The layer that refused a call with *error*, and that as the reason why it failed."""
    if isinstance(error, CircuitBreakerOpen):
        return "circuit_breaker", "the circuit breaker refused"
    if isinstance(error, LimitExceeded) and error.details.get("refused_by") == "timeout":
        return "timeout", "too many threads run on after their time"
    if isinstance(error, LimitExceeded):
        is_rate = error.error_code is ErrorCode.ERR_LIMIT_RATE
        return ("rate_limit", "the rate limit refused") if is_rate else ("bulkhead", "the bulkhead refused")
    return "deadline", "the deadline has passed"
