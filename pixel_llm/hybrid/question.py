"""What is asked about one picture, and what the stack of `pixel_llm.generate` gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pixel_llm.errors import APIError, ErrorCode, ValidationError
from pixel_llm.resilience import Outcome

if TYPE_CHECKING:
    from pixel_llm.encoder import Picture

DEFAULT_PROMPT = "What is in this picture?"


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """
    One question. Immutable.

    Attributes:
        picture: What it is about.
        prompt: What is asked.
        description: What the encoder says of the picture, where it has been asked already, as for a batch.
    """

    picture: Picture
    prompt: str
    description: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """
    What became of a question. Immutable.

    Attributes:
        chat: The outcome of `lm_studio.chat`.
        without_image: Why only the encoder's description was sent, though the policy wants the picture sent as well;
            None where nothing was left out.
        asked_before: How often LM Studio was asked with the picture before.
    """

    chat: Outcome[Any]
    without_image: APIError | None = None
    asked_before: int = 0

    def is_good(self) -> bool:
        """What a fallback served, what was cut off, and what the model said without the picture is not kept."""
        return not (self.chat.degraded or self.without_image or getattr(self.chat.value, "truncated", False))


def check_prompt(prompt: str | None) -> str:
    """
    *prompt*, or the usual one.

    Raises:
        ValidationError: If it is no text, or an empty one.
    """
    if prompt is None:
        return DEFAULT_PROMPT
    if not isinstance(prompt, str):
        raise ValidationError(
            f"prompt must be a text (got {type(prompt).__name__})", error_code=ErrorCode.ERR_VAL_INVALID_RANGE
        )
    if not prompt.strip():
        raise ValidationError("prompt must not be empty", error_code=ErrorCode.ERR_VAL_EMPTY_INPUT)
    return prompt
