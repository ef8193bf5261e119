"""What is asked: the request, the JSON that is sent for it, and its key in a cache."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

from pixel_llm.errors import ErrorCode, ValidationError

#: Stands before the description, so that the model knows what it reads.
DESCRIPTION_INTRODUCTION = (
    "These are facts about the picture, measured by a vision encoder; take them as given, do not repeat them as such:"
)

_GENERATION_SETTINGS = ("max_tokens", "temperature", "top_p", "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """
    One question to the model. Immutable; what is None is not sent, so that the server's default counts.

    *description* is what the encoder found in the picture; *image_data_uri* is the picture itself as
    ``data:image/png;base64,…`` (PNG and JPEG are safe). Either, both or neither may be given.

    Raises:
        ValidationError: If something that should be a text is none, or a number is none or not finite.
    """

    model: str
    prompt: str
    description: str | None = None
    image_data_uri: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    system_prompt: str | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.model, str) and isinstance(self.prompt, str)):
            raise _wrong("model and prompt must be texts", "model", (self.model, self.prompt))
        for name in ("description", "image_data_uri", "system_prompt"):
            if not isinstance(text := getattr(self, name), str | None):
                raise _wrong(f"{name} must be a text or None", name, text)
        for name in _GENERATION_SETTINGS:
            number = getattr(self, name)
            if number is not None and (not isinstance(number, int | float) or not math.isfinite(number)):
                raise _wrong(f"{name} must be a finite number or None", name, number)


def _wrong(demand: str, field: str, came: object) -> ValidationError:
    text = f"{demand} (got {repr(came)[:100]})"
    return ValidationError(text, error_code=ErrorCode.ERR_VAL_INVALID_RANGE, details={"field": field})


def chat_payload(request: ChatRequest) -> dict[str, Any]:
    """Write *request* in the shape of OpenAI's ``/chat/completions``."""
    text = request.prompt
    if request.description is not None:
        text = f"{DESCRIPTION_INTRODUCTION}\n{request.description}\n\n{text}"
    content: str | list[dict[str, Any]] = text
    if request.image_data_uri is not None:
        content = [
            {"type": "text", "text": text},
            {"type": "image_url", "image_url": {"url": request.image_data_uri}},
        ]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if request.system_prompt is not None:
        messages.insert(0, {"role": "system", "content": request.system_prompt})
    settings = {name: getattr(request, name) for name in _GENERATION_SETTINGS if getattr(request, name) is not None}
    return {"model": request.model, "messages": messages, "stream": False, **settings}


def request_key(request: ChatRequest, base_url: str, key_fingerprint: str = "") -> str:
    """
    Name everything that decides the answer: sha256, as hex, of the canonical request, endpoint and credential.

    Args:
        request: What is asked.
        base_url: Where it is asked; a slash at its end does not count.
        key_fingerprint: Tells API keys apart without being one, see :attr:`LMStudioClient.key_fingerprint`.
    """
    whole = [base_url.rstrip("/"), key_fingerprint, chat_payload(request)]
    return hashlib.sha256(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
