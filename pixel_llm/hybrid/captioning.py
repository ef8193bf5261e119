"""What `pixel_llm.generate` is around, in its four ways: plain and as a stream, for threads and for event loops."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from pixel_llm.hybrid.asking import Asking, Told
from pixel_llm.hybrid.chatting import is_whole_stream
from pixel_llm.hybrid.counts import CallCounts
from pixel_llm.hybrid.question import Answer, Question
from pixel_llm.hybrid.result import CaptionResult, result_of
from pixel_llm.request import current_request_id
from pixel_llm.runtime import Policies


class Captioning:
    """
    Captions pictures that have been read. Safe for concurrent use.

    How a call ends is counted by whoever made it, with :meth:`ended`: a batch that was broken off counts none of
    what it left.

    Args:
        policies: Their stack of `pixel_llm.generate` is around each question.
        asking: Answers the questions.
        counts: Counts how they end.
    """

    def __init__(self, policies: Policies, asking: Asking, counts: CallCounts) -> None:
        self._policies, self._counts = policies, counts
        generate = partial(policies.wrap, "pixel_llm.generate", key=asking.key, cooperative=True)
        self._answer = generate(asking.ask, cacheable=Answer.is_good)
        self._answer_async = generate(asking.ask_async, cacheable=Answer.is_good)
        self._stream = generate(asking.stream, cacheable=is_whole_stream)
        self._stream_async = generate(asking.stream_async, cacheable=is_whole_stream)

    def caption(self, question: Question, reading: float) -> CaptionResult:
        """The caption, for the current request; *reading* is how many seconds it took to read the picture."""
        return result_of(self._answer.outcome(question), reading, current_request_id())

    async def caption_async(self, question: Question, reading: float) -> CaptionResult:
        """:meth:`caption` for event loops."""
        return result_of(await self._answer_async.outcome(question), reading, current_request_id())

    def stream(self, question: Question, told: Told) -> Any:
        """The caption in pieces; nothing is asked before the first is read."""
        return self._stream(question, told)

    def stream_async(self, question: Question, told: Told) -> Any:
        """:meth:`stream` for event loops."""
        return self._stream_async(question, told)

    def ended(self, prompt: str, how: CaptionResult | Exception, text: str = "") -> None:
        """
        Count a call, and write down what was asked and answered where the policy says so.

        Args:
            prompt: What was asked.
            how: How it has ended.
            text: What had arrived of the caption, if it failed.
        """
        self._counts.ended(how)
        if isinstance(how, CaptionResult):
            self._policies.log_content("pixel_llm.generate", prompt=prompt, caption=how.text)
        else:
            arrived = {"caption": text} if text else {}
            self._policies.log_content("pixel_llm.generate", how, prompt=prompt, **arrived)

    @contextlib.contextmanager
    def failures(self, prompt: str) -> Iterator[None]:
        """Within, an error ends the call that asks *prompt*."""
        try:
            yield
        except Exception as error:
            self.ended(prompt, error)
            raise
