"""
From the bytes of an answer to a :class:`ChatReply`, or to the error that they are.

Pure functions, shared by the sync and the async client.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pixel_llm.errors import APIError, ErrorCode, parse_retry_after
from pixel_llm.lm_studio.asked import NOTHING, Asked, one_line
from pixel_llm.lm_studio.known_errors import diagnose

#: So much of the server's text goes into ``details["body"]`` …
BODY_LENGTH = 500
#: … and so much into the message, in characters.
_QUOTED_LENGTH = 200
#: What to do about an answer without a word.
NO_WORDS = "ask again; if every answer is empty, load another model"
#: A shorter key is a dummy, and cutting it out of every text would only garble them.
_SECRET_LENGTH = 4


@dataclass(frozen=True, slots=True)
class RawReply:
    """
    An answer as it came. Immutable.

    *headers* has lower-case names, or ignores case; *address* is the server's ``scheme://host:port``;
    *secrets*, and what was *asked*, are cut out of every text that is quoted.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    address: str
    secrets: tuple[str, ...] = field(default=(), repr=False)
    asked: Asked = field(default=NOTHING, repr=False, compare=False)

    @property
    def content_type(self) -> str:
        """The media type without its parameters, such as ``application/json``; empty if none came."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReply:
    """
    What the model said. Immutable.

    *text* is stripped and never empty. *model* is who answered, *requested_model* who was asked;
    a server that names none is taken to have obeyed. Token counts are None where the server gives none.
    *from_reasoning* is True if the model put its answer where its thoughts belong.
    """

    text: str
    model: str
    requested_model: str
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    from_reasoning: bool = False

    @property
    def truncated(self) -> bool:
        """True if ``max_tokens`` or the context cut the answer off."""
        return self.finish_reason == "length"

    @property
    def model_matches(self) -> bool:
        """True if the model that answered is the one asked for; its ``publisher/`` and a copy's ``:2`` aside."""
        return is_same_model(self.model, self.requested_model)


@dataclass(frozen=True, slots=True)
class ModelList:
    """The models that a server lists. Listed does not mean loaded. Immutable."""

    ids: tuple[str, ...]

    def __contains__(self, model: object) -> bool:
        return model in self.ids

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class TrialReply:
    """Who answered a question that only tries whether somebody does, and whether there were words. Immutable."""

    model: str
    has_text: bool
    has_reasoning: bool


def read_chat(reply: RawReply, requested_model: str) -> ChatReply:
    """
    Read an answer to ``/chat/completions``.

    An empty answer beside a reasoning is the reasoning if the model came to its end (several
    models answer there); if it was cut off, it never came to the answer, which is an error.

    Raises:
        APIError: If the server reports an error, with any status, or the answer makes no sense.
    """
    document, choice, message = _read_choice(reply, requested_model)
    finish_reason = choice.get("finish_reason")
    finish_reason = finish_reason if isinstance(finish_reason, str) else None
    text = _text_of(message, "content")
    reasoning = "" if text else _text_of(message, "reasoning_content") or _text_of(message, "reasoning")
    if reasoning and finish_reason == "length":
        make_no_sense(reply, "holds only reasoning: max_tokens ended it before the answer", "raise max_tokens")
    if not (text or reasoning):
        make_no_sense(reply, f"is empty (finish_reason {clean(str(finish_reason), 40)})", NO_WORDS)
    usage = document.get("usage")
    return ChatReply(
        text=text or reasoning,
        model=_who(document, requested_model),
        requested_model=requested_model,
        finish_reason=finish_reason,
        prompt_tokens=count_of(usage, "prompt_tokens"),
        completion_tokens=count_of(usage, "completion_tokens"),
        from_reasoning=bool(reasoning),
    )


def read_trial(reply: RawReply, requested_model: str) -> TrialReply:
    """
    Who answered, and of what kind it was, be it nothing, as one token may be.

    Raises:
        APIError: If the server reports an error, with any status, or the answer is none to a chat.
    """
    document, _, message = _read_choice(reply, requested_model)
    reasoning = _text_of(message, "reasoning_content") or _text_of(message, "reasoning")
    return TrialReply(_who(document, requested_model), bool(_text_of(message, "content")), bool(reasoning))


def _read_choice(reply: RawReply, requested_model: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The answer to a chat, its choice, and the message in that."""
    document = read_document(reply, model=requested_model)
    choices = document.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        make_no_sense(reply, "holds no choices")
    message = choice.get("message")
    if not isinstance(message, dict):
        make_no_sense(reply, "holds no message")
    return document, choice, message


def _who(document: dict[str, Any], requested_model: str) -> str:
    model = document.get("model")
    return model if isinstance(model, str) and model else requested_model


def read_models(reply: RawReply) -> ModelList:
    """
    Read an answer to ``/models``.

    Raises:
        APIError: If the server reports an error, with any status, or the answer makes no sense.
    """
    entries = read_document(reply).get("data")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        make_no_sense(reply, "holds no list of models")
    ids = tuple(entry.get("id") for entry in entries)
    if not all(isinstance(model, str) for model in ids):
        make_no_sense(reply, "lists a model without an id")
    return ModelList(ids)


def read_document(reply: RawReply, **details: Any) -> dict[str, Any]:
    """
    The body, parsed.

    Raises:
        APIError: If it reports an error, with any status, or is no JSON object. *details* are more facts for it.
    """
    document = parse_body(reply)
    envelope = document.get("error") if isinstance(document, dict) else None
    if envelope or not 200 <= reply.status < 300:
        raise error_in(reply, document, **details)
    if document is None and reply.content_type not in ("application/json", ""):
        make_no_sense(reply, f"is {clean(reply.content_type, 60)}, not JSON", "check that base_url ends in /v1")
    if not isinstance(document, dict):
        make_no_sense(reply, "is empty" if not reply.body.strip() else "is not a JSON object, or was cut off")
    return document


def parse_body(reply: RawReply) -> Any:
    """The body as JSON; None if it is none."""
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):  # not JSON, not Unicode, or nested too deep to be honest
        return None


def error_in(reply: RawReply, document: Any, **details: Any) -> APIError:
    """
    The error that the server reports, whichever status it came with.

    Args:
        reply: The answer.
        document: Its body, parsed; None if that is not JSON.
        details: More facts for the error.
    """
    text, names = _read_envelope(document)
    is_page = "html" in reply.content_type
    if not text and not is_page:
        text = reply.body[: 4 * BODY_LENGTH].decode("utf-8", "replace")
    diagnosis = diagnose(_effective_status(reply.status, names), text, names)
    wait = parse_retry_after(reply.headers)
    quoted = quote(reply, text, _QUOTED_LENGTH)
    if is_page and not quoted:
        quoted = f"a page ({reply.content_type})"
    asked = "" if wait is None else f"; retry_after {wait:g} s"
    message = f"{reply.address} answered with an error ({reply.status}{asked})"
    return _advised(
        f"{message}: {quoted}" if quoted else message,
        diagnosis.advice,
        error_code=diagnosis.error_code,
        details=_facts(reply) | details | dict(diagnosis.details),
        retry_after=wait,
    )


def _advised(message: str, advice: str, **fields: Any) -> APIError:
    """An error whose message ends with *advice*, if there is some."""
    error = APIError(f"{message}; {advice}" if advice else message, **fields)
    if advice:
        error.advice = advice
    return error


def _read_envelope(document: Any) -> tuple[str, list[str]]:
    """The error's text and its names, out of whichever envelope it came in."""
    if not isinstance(document, dict):
        return "", []
    error = document.get("error")
    if isinstance(error, str):
        return error, []
    fields = error if isinstance(error, dict) else {}
    text = next((t for t in (fields.get("message"), document.get("message")) if isinstance(t, str) and t), "")
    names = [str(fields[name]) for name in ("code", "type") if isinstance(fields.get(name), str | int)]
    return text, names


def _effective_status(status: int, names: list[str]) -> int:
    """The status that the envelope itself gives (llama.cpp's ``code``), where HTTP's says that all is well."""
    own = [int(name) for name in names if name in _ERROR_STATUSES]
    return own[0] if own and status < 300 else status


_ERROR_STATUSES = frozenset(str(status) for status in range(400, 600))


def make_no_sense(reply: RawReply, why: str, advice: str = "") -> NoReturn:
    """Raise :func:`nonsense_in`."""
    raise nonsense_in(reply, why, advice)


def nonsense_in(reply: RawReply, why: str, advice: str = "") -> APIError:
    """The error of an answer that makes no sense; *why* follows "the answer of <address>", *advice* what is wrong."""
    return _advised(
        f"the answer of {reply.address} {why}",
        advice,
        error_code=ErrorCode.ERR_API_INVALID_RESPONSE,
        details=_facts(reply),
    )


def _facts(reply: RawReply) -> dict[str, Any]:
    text = reply.body[: 8 * BODY_LENGTH].decode("utf-8", "replace")
    return {"url": reply.address, "status": reply.status, "body": quote(reply, text, BODY_LENGTH)}


def quote(reply: RawReply, text: str, length: int) -> str:
    """*text*, of the server's, as an error may show it: :func:`clean`, without secrets and without what was asked."""
    for secret in reply.secrets:
        if len(secret) >= _SECRET_LENGTH:
            text = text.replace(secret, "***")
    return _cut(reply.asked.cut_from(one_line(text[: 4 * length])), length)


def clean(text: str, length: int) -> str:
    """One line of printable characters, bounded: nothing that moves a terminal's cursor or splits a log line."""
    return _cut(one_line(text[: 4 * length]), length)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _text_of(message: dict[str, Any], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        return ""
    # A cut emoji leaves half a surrogate pair, which no file or socket would take.
    return value.encode("utf-8", "replace").decode().strip()


def count_of(usage: Any, name: str) -> int | None:
    """The number of tokens that *usage* gives by *name*; None if it gives none."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def is_same_model(one: str, other: str) -> bool:
    """True if two names mean the same model; its ``publisher/`` and a copy's ``:2`` do not count."""
    return one == other or _bare_name(one) == _bare_name(other)


def _bare_name(model: str) -> str:
    return re.sub(r":\d+$", "", model.lower().rpartition("/")[2])
