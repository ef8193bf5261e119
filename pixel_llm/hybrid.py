"""
The hybrid model: a picture goes through the vision encoder and LM Studio, a caption comes back.

::

    image → validation → [ encoder.load → encoder.forward → lm_studio.chat ] → result
                          └──────────── pixel_llm.generate ──────────────┘

Every name in brackets is a target of the policy, with its own stack.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from pixel_llm.errors import EncoderError, ErrorCode, ValidationError, classify_error
from pixel_llm.events import Listener
from pixel_llm.lm_studio import ChatReply, ChatRequest, LMStudioClient, request_key
from pixel_llm.lm_studio.endpoint import is_same_server
from pixel_llm.policy import Vision
from pixel_llm.resilience import SYSTEM_CLOCK, Clock, Outcome
from pixel_llm.resilience.outcome import SERVED_BY_CALL
from pixel_llm.runtime import Policies, load_policies

if TYPE_CHECKING:
    from pixel_llm.encoder import Encoder, ImageSource, Picture

DEFAULT_PROMPT = "What is in this picture?"

#: ``served_by`` of a caption that came from the server itself.
SERVED_BY_LM_STUDIO = "lm_studio"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionResult:
    """
    A caption, and how it came about. ``str()`` gives the caption. Immutable.

    Attributes:
        text: The caption; empty if the fallback ``none`` served.
        served_by: ``lm_studio``; ``cache_hit`` or ``shared_call`` of a read-through cache; or the fallback step:
            ``cache``, ``default_value``, ``none``, ``model:…``, ``endpoint:…``, ``target:…``, ``custom_function:…``.
        degraded: True if a fallback served.
        attempts: How often LM Studio was really asked; 0 if a layer refused.
        elapsed: Seconds from start to end, the reading of the image and waits included.
        truncated: True if the model ran into its token limit.
        model: The model that answered, or None if only a fallback did.
        error: What the fallback stands in for, else None.
    """

    text: str
    served_by: str
    degraded: bool
    attempts: int
    elapsed: float
    truncated: bool = False
    model: str | None = None
    error: Exception | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def error_code(self) -> ErrorCode | None:
        """The code of :attr:`error`."""
        return classify_error(self.error).error_code if self.error is not None else None


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the inside of ``pixel_llm.generate`` returns: the chat's outcome. Its good ones are cached."""

    chat: Outcome[Any]

    def is_good(self) -> bool:
        """Fallback and truncated results are never kept for later."""
        return not self.chat.degraded and not self.chat.value.truncated


class HybridPixelLLM:
    """
    Captions pictures as one policy profile says. Safe for concurrent use.

    Args:
        profile: The profile's name, else ``$PIXEL_LLM_PROFILE``, else ``basic``.
        policies: The folder of policies, or policies that are already loaded (then *profile*,
            *error_config*, *clock* and *listeners* are theirs, and closing them is yours).
        error_config: Policy sections laid over the profile, checked by the same schema, such as
            ``{"targets": {"lm_studio.chat": {"timeout": "5s"}}}``.
        clock: Where time comes from.
        listeners: Called for every event.

    Raises:
        PolicyError: If the policy is wrong. Nothing is started then.
    """

    def __init__(
        self,
        profile: str | None = None,
        policies: str | Path | Policies | None = None,
        *,
        error_config: Mapping[str, Any] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        listeners: Iterable[Listener] = (),
    ) -> None:
        if isinstance(policies, Policies):
            if profile is not None or error_config is not None:
                raise ValidationError("policies that are already loaded take neither profile nor error_config")
            self.policies, self._owns_policies = policies, False
        else:
            self.policies = load_policies(policies, profile, overrides=error_config, clock=clock, listeners=listeners)
            self._owns_policies = True
        self._config = self.policies.config.lm_studio
        key = self._config.api_key
        self._api_key = key.reveal() if key is not None else None
        self.client = LMStudioClient(self._config.base_url, api_key=self._api_key)
        self._other_clients: dict[str, LMStudioClient] = {}
        self._encoder: Encoder | None = None
        self._wrap_targets()

    def _wrap_targets(self) -> None:
        """Put each target's stack around its call, once."""
        wrap = self.policies.wrap
        # Loading is done for what it does to this object: no cache can stand for it.
        load_key = partial(self._encoder_key, id(self))
        self._load = wrap("encoder.load", self._load_encoder, key=load_key, cacheable=lambda _: False)
        self._forward = wrap("encoder.forward", self._describe, key=lambda picture: picture.digest)
        # The client reads the time left before every socket operation, and generate() ends with it.
        endpoint = {"endpoint": lambda *_: self.client.base_url}
        keys = {"model": lambda request: request.model, **endpoint}
        chat = partial(
            wrap, "lm_studio.chat", key=self._chat_key, cooperative=True, cacheable=_is_whole, breaker_key=keys
        )
        self._chat = chat(self.client.chat, alternative=self._elsewhere)
        self._chat_async = chat(self.client.chat_async, alternative=self._elsewhere_async)
        models = partial(
            wrap, "lm_studio.models", key=lambda: self.client.base_url, cooperative=True, breaker_key=endpoint
        )
        self.models = models(self.client.models)
        self.models_async = models(self.client.models_async)
        generate = partial(
            wrap, "pixel_llm.generate", key=self._generate_key, cooperative=True, cacheable=_Answer.is_good
        )
        self._answer = generate(self._ask)
        self._answer_async = generate(self._ask_async)

    def load(self) -> None:
        """
        Load the encoder now, through its own target, rather than with the first picture.

        Raises:
            EncoderError: If it can't be loaded.
        """
        self._load()

    def generate(self, image: ImageSource, prompt: str | None = None) -> CaptionResult:
        """
        Caption one picture. The deadlines cover the encoder and LM Studio, not the reading of *image*.

        Args:
            image: A path, bytes, a binary file, a PIL image, a NumPy array or a torch tensor; see
                :func:`pixel_llm.encoder.load_image` for shapes and ranges.
            prompt: What to ask about it.

        Raises:
            ValidationError: If the image or the prompt is wrong.
            EncoderError: If what was given is no image, or the encoder fails for good.
            PixelLMError: What LM Studio's failure was, where the policy has no fallback for it.
        """
        started = time.monotonic()
        prompt = _check_prompt(prompt)
        picture = _picture_tools().load_image(image)
        reading = time.monotonic() - started
        return self._served(prompt, _result(self._answer.outcome(picture, prompt), reading))

    async def generate_async(self, image: ImageSource, prompt: str | None = None) -> CaptionResult:
        """:meth:`generate` for event loops. Decoding and encoding run in a thread, so the loop is never blocked."""
        started = time.monotonic()
        prompt = _check_prompt(prompt)
        picture = await asyncio.to_thread(_picture_tools().load_image, image)
        reading = time.monotonic() - started
        return self._served(prompt, _result(await self._answer_async.outcome(picture, prompt), reading))

    def close(self) -> None:
        """Close the connections and, if they were loaded here, the policies' log. A later call opens what it needs."""
        self.client.close()
        for client in list(self._other_clients.values()):
            client.close()
        if self._owns_policies:
            self.policies.close()

    def __enter__(self) -> HybridPixelLLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a HybridPixelLLM can't be pickled: build one in each process")

    def __repr__(self) -> str:
        return f"<HybridPixelLLM {self.policies.profile!r} at {self.client.base_url}>"

    def _served(self, prompt: str, result: CaptionResult) -> CaptionResult:
        self.policies.log_content("pixel_llm.generate", prompt=prompt, caption=result.text)
        return result

    def _ask(self, picture: Picture, prompt: str) -> _Answer:
        return _Answer(self._chat.outcome(self._request(picture, prompt)))

    async def _ask_async(self, picture: Picture, prompt: str) -> _Answer:
        request = await asyncio.to_thread(self._request, picture, prompt)
        return _Answer(await self._chat_async.outcome(request))

    def _request(self, picture: Picture, prompt: str) -> ChatRequest:
        config, generation = self._config, self._config.generation
        description = image = None
        if config.vision is not Vision.IMAGE:
            self._load()
            description = self._forward(picture)
        if config.vision is not Vision.DESCRIPTION:
            image = _picture_tools().to_data_uri(picture, config.image)
        return ChatRequest(
            model=config.model,
            prompt=prompt,
            description=description,
            image_data_uri=image,
            max_tokens=generation.max_tokens,
            temperature=generation.temperature,
            top_p=generation.top_p,
            seed=generation.seed,
            system_prompt=generation.system_prompt or None,
        )

    def _elsewhere(self, step: str, name: str) -> Callable[[ChatRequest], ChatReply]:
        """The chat with another model, or on another server; see ``alternative`` of :meth:`Policies.wrap`."""
        if step == "endpoint":
            return self._other_client(name).chat
        return lambda request: self.client.chat(replace(request, model=name))

    def _elsewhere_async(self, step: str, name: str) -> Callable[[ChatRequest], Awaitable[ChatReply]]:
        """The same for event loops."""
        if step == "endpoint":
            return self._other_client(name).chat_async

        async def chat(request: ChatRequest) -> ChatReply:
            return await self.client.chat_async(replace(request, model=name))

        return chat

    def _other_client(self, base_url: str) -> LMStudioClient:
        client = self._other_clients.get(base_url)
        if client is not None:
            return client
        # A key is for the server that it was given for.
        api_key = self._api_key if is_same_server(base_url, self._config.base_url) else None
        # setdefault() is atomic, so that two threads get the same one.
        return self._other_clients.setdefault(base_url, LMStudioClient(base_url, api_key=api_key))

    def _load_encoder(self) -> None:
        if self._encoder is None:
            encoder = _picture_tools().build_encoder(self.policies.config.encoder)
            encoder.load()
            self._encoder = encoder

    def _describe(self, picture: Picture) -> str:
        if self._encoder is None:
            raise EncoderError("the encoder is not loaded", error_code=ErrorCode.ERR_ENC_LOAD_FAILED)
        return self._encoder.encode(picture).description

    def _encoder_key(self, owner: int = 0) -> str:
        return f"{owner}:{self.policies.config.encoder.type}@{self.policies.config.encoder.device}"

    def _chat_key(self, request: ChatRequest) -> str:
        return request_key(request, self.client.base_url, self.client.key_fingerprint)

    def _generate_key(self, picture: Picture, prompt: str) -> str:
        """The whole canonical request: everything that decides the answer, the picture by its pixels."""
        config = self._config
        generation = {name: getattr(config.generation, name) for name in config.generation.__slots__}
        whole = [
            picture.digest,
            prompt,
            config.model,
            config.vision,
            generation,
            self._encoder_key(),
            self.client.base_url,
            self.client.key_fingerprint,
        ]
        return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


def _picture_tools() -> ModuleType:
    """The encoder's room; it needs Pillow, which only captioning needs."""
    from pixel_llm import encoder

    try:
        encoder.load_image  # noqa: B018 - loads Pillow, so that its absence is said plainly
    except ImportError as error:
        raise EncoderError(
            "captioning needs Pillow and torch: pip install 'pixel-llm[encoder]'",
            error_code=ErrorCode.ERR_ENC_LOAD_FAILED,
        ) from error
    return encoder


def _check_prompt(prompt: str | None) -> str:
    if prompt is None:
        return DEFAULT_PROMPT
    if not isinstance(prompt, str):
        raise ValidationError(
            f"prompt must be a text (got {type(prompt).__name__})", error_code=ErrorCode.ERR_VAL_INVALID_RANGE
        )
    if not prompt.strip():
        raise ValidationError("prompt must not be empty", error_code=ErrorCode.ERR_VAL_EMPTY_INPUT)
    return prompt


def _result(outcome: Outcome[Any], reading: float) -> CaptionResult:
    """Say of the whole call who served: a fallback of generate, one of the chat inside it, or LM Studio."""
    if outcome.degraded:
        cached = outcome.value
        text = _text(cached.chat.value) if isinstance(cached, _Answer) else _text(cached)
        return CaptionResult(
            text=text,
            served_by=outcome.served_by,
            degraded=True,
            attempts=getattr(outcome.error, "attempts", None) or 0,
            elapsed=reading + outcome.elapsed,
            error=outcome.error,
        )
    chat: Outcome[Any] = outcome.value.chat
    reply = chat.value
    is_reply = isinstance(reply, ChatReply)
    served_by = chat.served_by if outcome.served_by == SERVED_BY_CALL else outcome.served_by
    return CaptionResult(
        text=_text(reply),
        served_by=SERVED_BY_LM_STUDIO if served_by == SERVED_BY_CALL else served_by,
        degraded=chat.degraded,
        attempts=chat.attempts if outcome.served_by == SERVED_BY_CALL else 0,
        elapsed=reading + outcome.elapsed,
        truncated=reply.truncated if is_reply else False,
        model=reply.model if is_reply and chat.served_by != "cache" else None,
        error=chat.error,
    )


def _is_whole(reply: Any) -> bool:
    """Truncated replies are never kept for later."""
    return not (isinstance(reply, ChatReply) and reply.truncated)


def _text(value: Any) -> str:
    if isinstance(value, ChatReply):
        return value.text
    return "" if value is None else str(value)
