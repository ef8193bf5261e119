"""
The hybrid model: a picture goes through the vision encoder and LM Studio, a caption comes back.

::

    image → validation → [ encoder.load → encoder.forward → lm_studio.chat ] → result
                          └──────────── pixel_llm.generate ──────────────┘

Every name in brackets is a target of the policy, with its own stack.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.events import Listener
from pixel_llm.hybrid.asking import Asking, Told
from pixel_llm.hybrid.batch import BatchItem, OnProgress, check_progress
from pixel_llm.hybrid.batching import Batching
from pixel_llm.hybrid.captioning import Captioning
from pixel_llm.hybrid.chatting import Chat
from pixel_llm.hybrid.config import HybridConfig
from pixel_llm.hybrid.counts import CallCounts
from pixel_llm.hybrid.describing import Describer, read_picture
from pixel_llm.hybrid.question import Question, check_prompt
from pixel_llm.hybrid.result import CaptionResult
from pixel_llm.hybrid.stream import AsyncCaptionStream, CaptionStream
from pixel_llm.lm_studio import LMStudioClient, ModelList
from pixel_llm.policy import Vision
from pixel_llm.request import Request
from pixel_llm.resilience import SYSTEM_CLOCK, Clock
from pixel_llm.runtime import Policies, load_policies

if TYPE_CHECKING:
    from pixel_llm.encoder import ImageSource

#: How many pictures of a batch LM Studio is asked about at once where no bulkhead says: so many it works on itself.
DEFAULT_JOBS = 4

#: Each is a thread in the sync world.
MOST_JOBS = 256


class HybridPixelLLM:
    """
    Captions pictures as one policy profile says. Safe for concurrent use.

    Args:
        profile: The profile's name, else ``$PIXEL_LLM_PROFILE``, else ``basic``.
        policies: The folder of policies, or policies that are already loaded (then *profile*,
            *error_config*, *clock* and *listeners* are theirs, and closing them is yours).
        error_config: Policy sections laid over the profile, checked by the same schema, such as
            ``{"targets": {"lm_studio.chat": {"timeout": "5s"}}}``.
        clock: Where time comes from; by default the system's clock.
        listeners: Called for every event.

    Raises:
        PolicyError: If the policy is wrong. Nothing is started then.
        ValidationError: If an argument is of the wrong kind, or says what loaded policies say themselves.
    """

    def __init__(
        self,
        profile: str | None = None,
        policies: str | Path | Policies | None = None,
        *,
        error_config: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        listeners: Iterable[Listener] = (),
    ) -> None:
        self._config: HybridConfig | None = None
        if not isinstance(listeners, Iterable):
            raise ValidationError(f"listeners must be a list of functions (got {type(listeners).__name__})")
        listeners = tuple(listeners)
        if isinstance(policies, Policies):
            given = {"profile": profile, "error_config": error_config, "clock": clock, "listeners": listeners or None}
            told = [name for name, value in given.items() if value is not None]
            if told:
                raise ValidationError(
                    f"policies that are already loaded have their own {' and '.join(told)}: give it to load_policies()"
                )
            self.policies, self._owns_policies = policies, False
        else:
            self._config = config = HybridConfig(profile=profile, policies=policies, error_config=error_config)
            self.policies = load_policies(
                config.policies,
                config.profile,
                overrides=config.error_config,
                clock=clock or SYSTEM_CLOCK,
                listeners=listeners,
            )
            self._owns_policies = True
        self._describer = Describer(self.policies)
        self._chat = Chat(self.policies)
        asking = Asking(self.policies, self._describer, self._chat, clock=self.policies.clock)
        self._counts = CallCounts()
        self._captioning = Captioning(self.policies, asking, self._counts)

    @classmethod
    def from_config(cls, config: HybridConfig) -> Self:
        """Build the model that *config* describes, as in another process."""
        return cls(config.profile, config.policies, error_config=config.error_config)

    @property
    def config(self) -> HybridConfig:
        """
        What this model was built from; it pickles.

        Raises:
            ValidationError: If it was given policies that were already loaded: these don't say where they came from.
        """
        if self._config is None:
            raise ValidationError("a model that was given loaded policies has no config: give it a profile's name")
        return self._config

    @property
    def client(self) -> LMStudioClient:
        """The client of the policy's server, or of the first of several. Its calls pass no stack."""
        return self._chat.client

    def load(self) -> None:
        """
        Load the encoder now, through its own target, rather than with the first picture.

        Raises:
            EncoderError: If it can't be loaded.
        """
        self._describer.load()

    def models(self) -> ModelList:
        """Which models the server lists; through the target `lm_studio.models`."""
        return self._chat.models()

    async def models_async(self) -> ModelList:
        """:meth:`models` for event loops."""
        return await self._chat.models_async()

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
        with Request():
            prompt, started = check_prompt(prompt), time.monotonic()
            with self._captioning.failures(prompt):
                question = Question(read_picture(image), prompt)
                result = self._captioning.caption(question, time.monotonic() - started)
            self._captioning.ended(prompt, result)
            return result

    async def generate_async(self, image: ImageSource, prompt: str | None = None) -> CaptionResult:
        """:meth:`generate` for event loops. Decoding and encoding run in a thread, so the loop is never blocked."""
        with Request():
            prompt, started = check_prompt(prompt), time.monotonic()
            with self._captioning.failures(prompt):
                question = Question(await asyncio.to_thread(read_picture, image), prompt)
                result = await self._captioning.caption_async(question, time.monotonic() - started)
            self._captioning.ended(prompt, result)
            return result

    def stream(self, image: ImageSource, prompt: str | None = None) -> CaptionStream:
        """
        Caption one picture, and give the caption while it is written.

        The image is read now, the server asked when the first piece is: errors of either kind come then. See
        :class:`CaptionStream`, and :meth:`generate` for the arguments.
        """
        with Request() as request:
            prompt, started = check_prompt(prompt), time.monotonic()
            with self._captioning.failures(prompt):
                question = Question(read_picture(image), prompt)
            reading = time.monotonic() - started
            return CaptionStream(
                partial(self._captioning.stream, question),
                reading,
                partial(self._captioning.ended, prompt),
                request.id,
                self.policies.clock,
            )

    def stream_async(self, image: ImageSource, prompt: str | None = None) -> AsyncCaptionStream:
        """:meth:`stream` for event loops. The image is read, in a thread, when the first piece is asked for."""
        with Request() as request:
            words = check_prompt(prompt)

        async def open_stream(told: Told) -> Any:
            question = Question(await asyncio.to_thread(read_picture, image), words)
            return self._captioning.stream_async(question, told)

        return AsyncCaptionStream(open_stream, partial(self._captioning.ended, words), request.id)

    def generate_batch(
        self,
        images: Iterable[ImageSource],
        prompt: str | None = None,
        *,
        jobs: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[BatchItem]:
        """
        Caption many pictures: encoded together, asked about several at once.

        One that fails does not touch the others. Memory holds some of the pictures at a time, however many there are.

        Args:
            images: Several of what :meth:`generate` takes, or an array of N pictures. They are taken as they are
                needed.
            prompt: What to ask about each.
            jobs: How many to ask about at once; by default as many as the bulkhead of `lm_studio.chat` lets in, else
                four, which is what LM Studio works on at once.
            on_progress: Told of every picture when it has ended, one at a time, in whichever thread that was. An error
                of its own is logged; an exit, such as ``sys.exit()``, ends the batch.

        Returns:
            An item for each image, in their order: its result, or its error.

        Raises:
            ValidationError: If an argument is wrong, or *images* is a single picture.
        """
        return self._batching(prompt, jobs, on_progress).run(images)

    async def generate_batch_async(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        prompt: str | None = None,
        *,
        jobs: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[BatchItem]:
        """
        :meth:`generate_batch` for event loops.

        An iterator runs in a thread, so that the loop is never blocked; an async one in the loop.
        """
        return await self._batching(prompt, jobs, on_progress).run_async(images)

    def get_error_metrics(self) -> dict[str, Any]:
        """
        How the calls so far have ended, all of the same moment.

        ``total_requests``, ``successful_requests`` (with a caption, whoever served), ``degraded_requests`` (of these,
        those that a fallback served), ``failed_requests``, ``success_rate`` (1.0 without any), ``error_counts`` by
        code, those that a fallback stood in for included; and ``circuit_breaker_state`` of `lm_studio.chat`: its name,
        or a dict of names where there are several: by key if the policy says ``per``, by address if it names
        ``endpoints``; None without a breaker. ``endpoint_errors`` says, by address, what each of several servers failed
        of that has not answered since: one with a wrong key, say, while another makes up for it.

        Streams count when they have ended; what was closed, cancelled or interrupted before its end does not count.
        """
        breakers = {key: breaker.state.value for key, breaker in self.policies.breakers("lm_studio.chat").items()}
        state = breakers.get(None) if set(breakers) <= {None} else {str(key): name for key, name in breakers.items()}
        return {
            **self._counts.snapshot(),
            "circuit_breaker_state": state,
            "endpoint_errors": self._chat.last_errors,
        }

    def reset_metrics(self) -> None:
        """Count from now on. Breakers are not touched."""
        self._counts.reset()

    def close(self) -> None:
        """Close the connections and, if they were loaded here, the policies' log. A later call opens what it needs."""
        self._chat.close()
        if self._owns_policies:
            self.policies.close()

    async def aclose(self) -> None:
        """:meth:`close`, and close the connections of the running event loop."""
        await self._chat.aclose()
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a HybridPixelLLM can't be pickled: pickle its config, and build one of it in each process")

    def __repr__(self) -> str:
        return f"<HybridPixelLLM {self.policies.profile!r} at {self.client.base_url}>"

    def _batching(self, prompt: str | None, jobs: int | None, on_progress: OnProgress | None) -> Batching:
        if jobs is None:
            layers = self.policies.describe("lm_studio.chat")
            limits = [layer.settings["max_concurrent"] for layer in layers if layer.name == "bulkhead"]
            jobs = min([*limits, MOST_JOBS]) if limits else DEFAULT_JOBS
        if not isinstance(jobs, int) or isinstance(jobs, bool) or not 1 <= jobs <= MOST_JOBS:
            raise ValidationError(
                f"jobs must be a whole number from 1 to {MOST_JOBS} (got {jobs!r})",
                error_code=ErrorCode.ERR_VAL_INVALID_RANGE,
                details={"field": "jobs"},
            )
        check_progress(on_progress)
        return Batching(
            self._captioning,
            None if self.policies.config.lm_studio.vision is Vision.IMAGE else self._describer.describe_all,
            clock=self.policies.clock,
            prompt=check_prompt(prompt),
            jobs=jobs,
            together=self.policies.config.encoder.batch.max_size,
            on_progress=on_progress,
        )
