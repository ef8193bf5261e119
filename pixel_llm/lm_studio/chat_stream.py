"""
From the bytes of a streamed chat to its chunks, or to the error that it ends in.

Pure: both worlds feed it what comes, and look at a stream only through it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pixel_llm.errors import ConnectionError, ErrorCode
from pixel_llm.lm_studio.replies import (
    NO_WORDS,
    RawReply,
    clean,
    count_of,
    error_in,
    is_same_model,
    make_no_sense,
    nonsense_in,
    quote,
    read_chat,
)
from pixel_llm.lm_studio.sse import Event, EventReader, Fault

EVENT_STREAM = "text/event-stream"
#: What a whole answer may begin with, and an event stream may not.
_DOCUMENT_STARTS = b'{["<'


@dataclass(frozen=True, slots=True)
class ChatChunk:
    """
    A piece of what the model says. Immutable.

    All pieces joined are the text that :meth:`LMStudioClient.chat` would have given. The last one closes the stream:
    its *text* is empty, and it alone has *finish_reason* and the token counts, which are None where the server tells
    none. *model* is who answers; *from_reasoning* is True if the model put its answer where its thoughts belong.
    """

    text: str
    model: str
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    from_reasoning: bool = False

    @property
    def truncated(self) -> bool:
        """True for the closing piece of an answer that ``max_tokens`` or the context cut off."""
        return self.finish_reason == "length"


class ChatStream:
    """
    Reads one answer to a chat that was asked for as a stream.

    A stream has ended properly with ``[DONE]``, or when the server has told a ``finish_reason`` and HTTP says that
    nothing more comes. Whatever else it ends in is an error. A server that answers with a whole document, an error
    or all of the answer at once, is understood.

    Args:
        head: The answer without its body.
        requested_model: Who was asked; a server that names no model is taken to have obeyed.
        longest: The most bytes of the body.

    Attributes:
        model: Who answers.
        done: True once ``[DONE]`` has come: what is still to come is no part of the answer.

    Each method raises, where the stream breaks:
        APIError: If the server reports an error, or what it sends makes no sense.
        ConnectionError: If it ends before the answer is complete.
    """

    def __init__(self, head: RawReply, requested_model: str, *, longest: int) -> None:
        self.model = requested_model
        self.done = False
        self._head = head
        self._requested_model = requested_model
        self._longest = longest
        self._reader = EventReader(longest_stream=longest)
        self._document: bytearray | None = None
        if not 200 <= head.status < 300 or head.content_type not in (EVENT_STREAM, ""):
            self._document = bytearray()
        self._begun = False
        self._delivered = 0  # characters
        self._space = ""  # white space that is part of the answer only if more comes
        self._half = ""  # the first half of a character outside the BMP
        self._thoughts: list[str] = []
        self._finish_reason: str | None = None
        self._usage: Any = None

    def feed(self, part: bytes) -> Iterator[ChatChunk]:
        """Read the next bytes of the body; gives the pieces that they complete."""
        if not self._begun:
            self._begin(part)
        if self._document is not None:
            self._document += part
            if len(self._document) > self._longest:
                raise self._too_long(f"more than {self._longest} bytes")
            return
        for item in self._reader.feed(part):
            text = self._read(item)
            if text:
                self._delivered += len(text)
                yield ChatChunk(text, self.model)
            if self.done:
                return

    def finish(self) -> Iterator[ChatChunk]:
        """The body has ended, or the stream is :attr:`done`; gives what is left, and the piece that closes it."""
        if self._document is not None:
            yield from self._read_document(bytes(self._document))
            return
        if not self.done:
            for item in self._reader.finish():
                text = self._read(item, last=True)
                if text:
                    self._delivered += len(text)
                    yield ChatChunk(text, self.model)
            if not (self.done or self._finish_reason):
                raise self._broken()
        thoughts = "" if self._delivered else _sound("".join(self._thoughts)).strip()
        if thoughts:
            if self._finish_reason == "length":
                make_no_sense(
                    self._head, "holds only reasoning: max_tokens ended it before the answer", "raise max_tokens"
                )
            yield ChatChunk(thoughts, self.model, from_reasoning=True)
        elif not self._delivered:
            make_no_sense(self._head, f"is empty (finish_reason {clean(str(self._finish_reason), 40)})", NO_WORDS)
        yield ChatChunk(
            "",
            self.model,
            self._finish_reason,
            count_of(self._usage, "prompt_tokens"),
            count_of(self._usage, "completion_tokens"),
            bool(thoughts),
        )

    @property
    def model_matches(self) -> bool:
        """True if the model that answers is the one asked for."""
        return is_same_model(self.model, self._requested_model)

    def _begin(self, part: bytes) -> None:
        start = part.lstrip()[:1]
        if start:
            self._begun = True
            if self._document is None and start in _DOCUMENT_STARTS:  # whatever it calls itself
                self._document = bytearray()

    def _read(self, item: Event | Fault, *, last: bool = False) -> str:
        """The text that *item* adds to the answer."""
        if isinstance(item, Fault):
            if item.reason == "size":
                raise self._too_long(item.text)
            reply = self._with(item.text)
            raise nonsense_in(reply, f"breaks off into text that is no event: {quote(reply, item.text, 200)}")
        data = item.data
        if data == "[DONE]" or data.strip() == "[DONE]":
            self.done = True
            return self._rest_of_character()
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):  # not JSON, or nested too deep to be honest
            document = None
            if item.name == "error":
                raise error_in(self._with(data), None) from None
            if last:
                raise self._broken() from None
            make_no_sense(self._with(data), "holds an event that is no JSON")
        if type(document) is not dict:
            if item.name == "error":
                raise error_in(self._with(data), {"error": document} if isinstance(document, str) else None)
            make_no_sense(self._with(data), "holds an event that is no JSON object")
        choices = document.get("choices")
        if document.get("error") or item.name == "error" or (choices is None and document.get("message")):
            raise error_in(self._with(data), document, model=self._requested_model)
        model = document.get("model")
        if model and type(model) is str and model != self.model:
            self.model = model
        usage = document.get("usage")
        if usage:
            self._usage = usage
        if not choices:
            return ""
        choice = choices[0] if type(choices) is list else None
        if type(choice) is not dict:
            make_no_sense(self._with(data), "holds an event whose choices are none")
        reason = choice.get("finish_reason")
        if reason and type(reason) is str:
            self._finish_reason = reason
        delta = choice.get("delta")
        return self._text_of(delta) if type(delta) is dict else ""

    def _text_of(self, delta: Mapping[str, Any]) -> str:
        text = delta.get("content")
        if type(text) is str and text:
            return self._trimmed(text)
        if not self._delivered:
            thought = delta.get("reasoning_content") or delta.get("reasoning")
            if type(thought) is str:
                self._thoughts.append(thought)
        return ""

    def _trimmed(self, text: str) -> str:
        """*text* as far as it surely belongs to the answer, which neither begins nor ends with white space."""
        if not text.isascii() or self._half:
            text = self._whole_characters(text)
        if self._space:
            text = self._space + text
            self._space = ""
        if not self._delivered:
            text = text.lstrip()
        kept = text.rstrip()
        if len(kept) != len(text):
            self._space = text[len(kept) :]
        return kept

    def _whole_characters(self, text: str) -> str:
        """*text* without halves of characters: the first may come in one chunk, the second in the next."""
        text = self._half + text
        self._half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        return _sound(text[:-1] if self._half else text)

    def _rest_of_character(self) -> str:
        half, self._half = self._half, ""
        return self._space + _sound(half) if half else ""

    def _read_document(self, body: bytes) -> Iterator[ChatChunk]:
        """What a server says that answers with a whole document."""
        raw = self._with(body)
        if not 200 <= raw.status < 300 and (reported := _document_in_events(body)) is not None:
            raise error_in(raw, reported, model=self._requested_model)
        reply = read_chat(raw, self._requested_model)
        self.model = reply.model
        yield ChatChunk(reply.text, reply.model, from_reasoning=reply.from_reasoning)
        yield ChatChunk(
            "", reply.model, reply.finish_reason, reply.prompt_tokens, reply.completion_tokens, reply.from_reasoning
        )

    def _with(self, body: str | bytes) -> RawReply:
        """The answer with *body*, or the event that matters, as an error quotes it."""
        head = self._head
        content = body if isinstance(body, bytes) else body.encode("utf-8", "replace")
        return RawReply(head.status, head.headers, content, head.address, head.secrets, head.asked)

    def _broken(self) -> Exception:
        """The error of a stream that ends before the answer does."""
        if not (self._begun or self._delivered or self._thoughts):
            return nonsense_in(
                self._head, "is a stream without events; a prompt that does not fit into the context can be the reason"
            )
        return ConnectionError(
            f"the stream of {self._head.address} ended before the answer was complete:"
            f" neither finish_reason nor [DONE] came, after {self._delivered} characters",
            error_code=ErrorCode.ERR_CONN_LOST,
            details={"url": self._head.address, "status": self._head.status},
        )

    def _too_long(self, what: str) -> Exception:
        return nonsense_in(self._head, f"is longer than is taken: {what}")


def _document_in_events(body: bytes) -> Any:
    """The document of the first event, in a body of events that came with an error's status; None if there is none."""
    events = EventReader()
    for item in (*events.feed(body), *events.finish()):
        if isinstance(item, Event):
            try:
                return json.loads(item.data)
            except (ValueError, RecursionError):
                return None
    return None


def _sound(text: str) -> str:
    """*text* without halves of characters, which no file or socket would take; whole ones are put together."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
