"""
What `pixel_llm.generate` is put around: the encoder's description, and the model's answer.

Where the model turns out to take no images, and the policy says `lm_studio.without_vision: description`, it is asked
again with the description alone, and from then on without trying, until :data:`BLIND_FOR` seconds have passed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pixel_llm.errors import APIError
from pixel_llm.hybrid.chatting import Chat
from pixel_llm.hybrid.describing import Describer, picture_tools
from pixel_llm.hybrid.question import Answer, Question
from pixel_llm.hybrid.result import text_of
from pixel_llm.lm_studio import ChatRequest
from pixel_llm.policy import Vision, WithoutVision
from pixel_llm.resilience import Clock, Outcome
from pixel_llm.runtime import Policies

if TYPE_CHECKING:
    from pixel_llm.encoder import Picture

#: Seconds for which a model that took no images is not sent any.
BLIND_FOR = 600.0


class Makeshift(str):
    """A piece of a caption that is not the model's own answer to the whole question: it is not kept for later."""

    __slots__ = ()


class Asking:
    """
    Asks the model about a picture. Safe for concurrent use.

    Args:
        policies: Their `lm_studio` section says what is sent of a picture.
        describer: The encoder.
        chat: The model.
        clock: Where time comes from.
    """

    def __init__(self, policies: Policies, describer: Describer, chat: Chat, *, clock: Clock) -> None:
        self._config = policies.config.lm_studio
        self._describer = describer
        self._chat = chat
        self._clock = clock
        self._blind_until = 0.0
        self._blind_because: APIError | None = None

    def ask(self, question: Question) -> Answer:
        """The model's answer."""
        left_out, asked = self._blindness(), 0
        while True:
            try:
                return Answer(self._chat.ask.outcome(self._request(question, left_out)), left_out, asked)
            except APIError as error:
                left_out, asked = self._refused_image(error, left_out), error.attempts or 0

    async def ask_async(self, question: Question) -> Answer:
        """The same for event loops."""
        left_out, asked = self._blindness(), 0
        while True:
            request = await asyncio.to_thread(self._request, question, left_out)
            try:
                return Answer(await self._chat.ask_async.outcome(request), left_out, asked)
            except APIError as error:
                left_out, asked = self._refused_image(error, left_out), error.attempts or 0

    def stream(self, question: Question, told: Told) -> Iterator[Any]:
        """The answer in pieces: the chunks of the chat; *told* says how they come about."""
        left_out = self._blindness()
        while True:
            stream = told.begin(self._chat.stream(self._request(question, left_out)), left_out)
            try:
                yield from map(told.piece, stream)
                return
            except APIError as error:
                left_out = self._refused_image(error, told.left_out, told)
            finally:
                stream.close()

    async def stream_async(self, question: Question, told: Told) -> AsyncIterator[Any]:
        """The same for event loops."""
        left_out = self._blindness()
        while True:
            request = await asyncio.to_thread(self._request, question, left_out)
            stream = told.begin(self._chat.stream_async(request), left_out)
            try:
                async for chunk in stream:
                    yield told.piece(chunk)
                return
            except APIError as error:
                left_out = self._refused_image(error, told.left_out, told)
            finally:
                await stream.aclose()

    def key(self, question: Question, *_: Any) -> str:
        """The whole canonical request: everything that decides the answer, the picture by its pixels."""
        config = self._config
        generation = {name: getattr(config.generation, name) for name in config.generation.__slots__}
        whole = [
            question.picture.digest,
            question.prompt,
            config.model,
            config.vision,
            str(config.image),
            generation,
            self._describer.identity,
            *self._chat.identity,
        ]
        return hashlib.sha256(json.dumps(whole).encode()).hexdigest()

    def _request(self, question: Question, left_out: APIError | None) -> ChatRequest:
        """What is sent; where the picture is *left_out*, what the encoder says of it in any case."""
        config, generation, in_words = self._config, self._config.generation, left_out is not None
        picture, description, image = question.picture, question.description, None
        if description is None and (in_words or config.vision is not Vision.IMAGE):
            description = self._describer.describe(picture)
        if not in_words and config.vision is not Vision.DESCRIPTION:
            image = self._data_uri(picture)
        return ChatRequest(
            model=config.model,
            prompt=question.prompt,
            description=description,
            image_data_uri=image,
            max_tokens=generation.max_tokens,
            temperature=generation.temperature,
            top_p=generation.top_p,
            seed=generation.seed,
            system_prompt=generation.system_prompt or None,
        )

    def _data_uri(self, picture: Picture) -> str:
        uri: str = picture_tools().to_data_uri(picture, self._config.image)
        return uri

    def _blindness(self) -> APIError | None:
        """What the model said when it was last sent an image; None if it is to be sent one."""
        if self._blind_because is not None and self._clock.monotonic() < self._blind_until:
            return self._blind_because
        return None

    def _refused_image(self, error: APIError, left_out: APIError | None, told: Told | None = None) -> APIError:
        """*error*, if it says that the model takes no images and the policy has it asked without; else it is raised."""
        is_blind = error.details.get("vision") is False and self._config.vision is not Vision.DESCRIPTION
        wanted = self._config.without_vision is WithoutVision.DESCRIPTION
        if not (is_blind and wanted) or left_out is not None or (told is not None and told.has_begun):
            raise error
        self._blind_until = self._clock.monotonic() + BLIND_FOR
        self._blind_because = error.with_traceback(None)  # its frames hold the picture
        return error


class Told:
    """
    How the pieces of one stream come about. Belongs to whoever reads it.

    Attributes:
        left_out: As :class:`Answer` has it, of the chat that delivers.
        has_begun: Whether a piece was delivered.
    """

    __slots__ = ("_asked_before", "_stream", "has_begun", "left_out")

    def __init__(self) -> None:
        self._stream: Any = None
        self._asked_before = 0
        self.left_out: APIError | None = None
        self.has_begun = False

    def begin(self, stream: Any, left_out: APIError | None = None) -> Any:
        """*stream* is the one from now on."""
        if self._stream is not None:
            self._asked_before += self._stream.outcome().attempts
        self._stream, self.left_out = stream, left_out
        return stream

    def piece(self, chunk: Any) -> Any:
        """*chunk* as a piece of the caption."""
        self.has_begun = True
        degraded = self.left_out is not None or self.chat.degraded
        return Makeshift(text_of(chunk)) if degraded else chunk

    @property
    def chat(self) -> Outcome[Any]:
        """The outcome of the chat that delivers."""
        outcome: Outcome[Any] = self._stream.outcome()
        return outcome

    def answer(self, value: Any) -> Answer:
        """What became of the question, *value* being all that was delivered."""
        return Answer(replace(self.chat, value=value), self.left_out, self._asked_before)
