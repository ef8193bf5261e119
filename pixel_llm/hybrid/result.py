"""A caption, and how it came about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pixel_llm.errors import ErrorCode, classify_error
from pixel_llm.hybrid.question import Answer
from pixel_llm.lm_studio import ChatChunk, ChatReply
from pixel_llm.policy import FallbackStrategy
from pixel_llm.resilience import Outcome
from pixel_llm.resilience.outcome import SERVED_BY_CALL
from pixel_llm.resilience.streams.arrival import Chunks

#: ``served_by`` of a caption that came from the server itself …
SERVED_BY_LM_STUDIO = "lm_studio"
#: … and of one for which the server got the encoder's description only, since the model takes no images.
SERVED_BY_DESCRIPTION = "description"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionResult:
    """
    A caption, and how it came about. ``str()`` gives the caption. Immutable.

    Attributes:
        text: The caption; empty if the fallback ``none`` served.
        served_by: ``lm_studio``; ``description`` if the model takes no images and was given the encoder's description
            alone; ``cache_hit`` or ``shared_call`` of a read-through cache; or the fallback step: ``cache``,
            ``default_value``, ``none``, ``model:…``, ``endpoint:…``, ``target:…``, ``custom_function:…``.
        degraded: True if a fallback served, or something had to be left out.
        attempts: How often LM Studio was really asked; 0 if a layer refused.
        elapsed: Seconds from start to end, the reading of the image and waits included.
        truncated: True if the model ran into its token limit.
        model: The model that answered, or None if only a fallback did.
        endpoint: The address of the server that answered, where the policy names several or has models loaded first;
            else None.
        error: What the fallback stands in for, else None.
        request_id: The id under which errors, log records and LM Studio know this request.
    """

    text: str
    served_by: str
    degraded: bool
    attempts: int
    elapsed: float
    truncated: bool = False
    model: str | None = None
    endpoint: str | None = None
    error: Exception | None = None
    request_id: str | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def error_code(self) -> ErrorCode | None:
        """The code of :attr:`error`."""
        return classify_error(self.error).error_code if self.error is not None else None


def result_of(outcome: Outcome[Any], reading: float, request_id: str | None) -> CaptionResult:
    """
    Say of the whole call who served: a fallback of generate, one of the chat inside it, or LM Studio.

    Args:
        outcome: Of `pixel_llm.generate`.
        reading: Seconds that reading the image took before.
        request_id: The request's id.
    """
    value, elapsed = outcome.value, reading + outcome.elapsed
    if outcome.degraded:
        attempts = getattr(outcome.error, "attempts", None) or 0
        return CaptionResult(
            text=text_of(value),
            served_by=outcome.served_by,
            degraded=True,
            attempts=attempts,
            elapsed=elapsed,
            error=outcome.error,
            request_id=request_id,
        )
    if outcome.served_by != SERVED_BY_CALL:  # a read-through cache, with what a call or a stream had brought
        reply = value.chat.value if isinstance(value, Answer) else value
        return CaptionResult(
            text=text_of(reply),
            served_by=outcome.served_by,
            degraded=False,
            attempts=0,
            elapsed=elapsed,
            model=_model_of(reply),
            request_id=request_id,
        )
    chat, left_out = value.chat, value.without_image
    served_by = chat.served_by
    if served_by == SERVED_BY_CALL:
        served_by = SERVED_BY_LM_STUDIO if left_out is None else SERVED_BY_DESCRIPTION
    return CaptionResult(
        text=text_of(chat.value),
        served_by=served_by,
        degraded=chat.degraded or left_out is not None,
        attempts=chat.attempts + value.asked_before,
        elapsed=elapsed,
        truncated=getattr(chat.value, "finish_reason", None) == "length",
        model=_model_of(chat.value) if chat.served_by != FallbackStrategy.CACHE.value else None,
        endpoint=chat.asked[-1] if chat.asked and chat.served_by == SERVED_BY_CALL else None,
        error=chat.error or left_out,
        request_id=request_id,
    )


def text_of(value: Any) -> str:
    """The words in what a call, a stream or a fallback gave: a reply, a chunk, all chunks of a stream, or anything."""
    if isinstance(value, ChatReply | ChatChunk):
        return value.text
    if isinstance(value, Answer):
        return text_of(value.chat.value)
    if isinstance(value, Chunks):
        return "".join(map(text_of, value))
    return "" if value is None else str(value)


def _model_of(reply: Any) -> str | None:
    last = reply[-1] if isinstance(reply, Chunks) and reply else reply
    return last.model if isinstance(last, ChatReply | ChatChunk) else None
