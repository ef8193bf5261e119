"""Chats as spans, by the conventions for clients of generative AI. Nothing of what is asked or answered is in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.util.types import AttributeValue

from pixel_llm.lm_studio import ChatChunk, ChatReply, ChatRequest
from pixel_llm.opentelemetry.endings import Ending
from pixel_llm.opentelemetry.names import (
    ERROR_TYPE,
    GEN_AI_FINISH_REASONS,
    GEN_AI_INPUT_TOKENS,
    GEN_AI_OPERATION,
    GEN_AI_OUTPUT_TOKENS,
    GEN_AI_PROVIDER,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_RESPONSE_MODEL,
    GEN_AI_TOKEN_TYPE,
    SERVER_ADDRESS,
    SERVER_PORT,
)
from pixel_llm.opentelemetry.spans import CallSpan, failure
from pixel_llm.resilience import Outcome

if TYPE_CHECKING:
    from pixel_llm.opentelemetry.tracer import SpanTracer

#: The target whose calls are chats.
CHAT_TARGET = "lm_studio.chat"

#: ``served_by`` of what the model said before, or to somebody else.
_KEPT = frozenset({"cache_hit", "shared_call"})

#: How ``served_by`` begins where another model, or another server, has answered.
_ELSEWHERE = ("model:", "endpoint:")

_SETTINGS = ("max_tokens", "temperature", "top_p", "seed")


def chat_request(target: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ChatRequest | None:
    """
    What a call of *target* with these arguments asks the model; None if it is no chat of the LM Studio client.

    A request of another client, over :class:`pixel_llm.PolicyTransport`, is none: that client has its own spans.
    """
    if target != CHAT_TARGET:
        return None
    request = args[0] if args else kwargs.get("request")
    return request if isinstance(request, ChatRequest) else None


class ChatSpan(CallSpan):
    """A chat."""

    __slots__ = ("_basics", "_last", "_server")

    def __init__(self, tracer: SpanTracer, target: str, request: ChatRequest) -> None:
        self._basics: dict[str, AttributeValue] = {
            GEN_AI_OPERATION: "chat",
            GEN_AI_PROVIDER: "lm_studio",
            GEN_AI_REQUEST_MODEL: request.model,
        }
        #: Host and port of who was asked last; before that, of who will be, if there is only one.
        self._server = tracer.server
        self._last: ChatChunk | None = None
        settings = {
            f"gen_ai.request.{name}": value for name in _SETTINGS if (value := getattr(request, name)) is not None
        }
        super().__init__(
            tracer,
            target,
            name=f"chat {request.model}",
            kind=trace.SpanKind.CLIENT,
            attributes={**self._basics, **self._where(), **_there(settings)},
        )

    def asks(self, server: tuple[str, int]) -> None:
        """A request goes to *server*, host and port."""
        if server != self._server:
            self._server = server
            self.span.set_attributes(self._where())

    def chunk(self, chunk: Any) -> None:
        """The stream has delivered a chunk: the last one says how it ended."""
        if isinstance(chunk, ChatChunk):
            self._last = chunk

    def _write(self, result: Outcome[Any] | None, ending: Ending, error: BaseException | None) -> None:
        super()._write(result, ending, error)
        answer = self._answer(result)
        if answer is None:
            return
        self.span.set_attribute(GEN_AI_RESPONSE_MODEL, answer.model)
        if answer.finish_reason is not None:
            self.span.set_attribute(GEN_AI_FINISH_REASONS, [answer.finish_reason])
        if not _is_kept(result):
            self.span.set_attributes(_usage(answer))

    def _count(self, result: Outcome[Any] | None, ending: Ending, seconds: float) -> None:
        super()._count(result, ending, seconds)
        if _is_kept(result):
            return  # the model was not asked
        answer, recorder = self._answer(result), self._tracer.recorder
        attributes = {**self._basics, **self._where()}
        if answer is not None:
            attributes[GEN_AI_RESPONSE_MODEL] = answer.model
            for name, count in _usage(answer).items():
                recorder.tokens(count, attributes | {GEN_AI_TOKEN_TYPE: _TOKEN_TYPES[name]})
        failed_of = ending.error_type or failure(result)
        recorder.operation(seconds, attributes if failed_of is None else attributes | {ERROR_TYPE: failed_of})

    def _answer(self, result: Outcome[Any] | None) -> ChatReply | ChatChunk | None:
        """What a model said, be it another one; None if a fallback has spoken in its place."""
        if result is None or (result.degraded and not result.served_by.startswith(_ELSEWHERE)):
            return None
        return result.value if isinstance(result.value, ChatReply) else self._last

    def _where(self) -> dict[str, AttributeValue]:
        return {} if self._server is None else {SERVER_ADDRESS: self._server[0], SERVER_PORT: self._server[1]}


def _is_kept(result: Outcome[Any] | None) -> bool:
    return result is not None and result.served_by in _KEPT


_TOKEN_TYPES = {GEN_AI_INPUT_TOKENS: "input", GEN_AI_OUTPUT_TOKENS: "output"}


def _usage(answer: ChatReply | ChatChunk) -> dict[str, Any]:
    return _there({GEN_AI_INPUT_TOKENS: answer.prompt_tokens, GEN_AI_OUTPUT_TOKENS: answer.completion_tokens})


def _there(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are known."""
    return {name: value for name, value in attributes.items() if value is not None}
