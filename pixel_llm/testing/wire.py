"""
Steps as bytes: which response belongs to a request, and how it reaches the client.

Nothing here touches a socket. The shapes are LM Studio's: OpenAI's chat completion
with ``tool_calls: []`` always there, and three error envelopes side by side.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Literal

from pixel_llm.testing.steps import (
    EMBEDDINGS_PATH,
    LOAD_PATH,
    Answer,
    BrokenStream,
    Crash,
    Drip,
    EmptyChoices,
    ErrorBody,
    Garbage,
    Hang,
    ModelList,
    ModelLoad,
    Reset,
    Status,
    Step,
    Truncated,
    WrongType,
)

Ending = Literal["keep", "close", "reset"]

_JSON = "application/json; charset=utf-8"
_HTML = b"<!DOCTYPE html><html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>\n"

#: "Main colours: light blue 55 % (in the upper part), green 31 % (…)", as the patch encoder writes it.
_MAIN_COLOURS = re.compile(r"Main colours: ([^.]* \d+ %)")
_COLOUR = re.compile(r"([a-z][a-z ]*) \d+ %")
#: How a description of the picture is known: by the encoder's own first words, or by a label in front of it.
_DESCRIPTIONS = (
    re.compile(r"(\bA \w+ picture of \d+\D\d+ pixels.*)"),
    re.compile(r"\b(?:picture|image|photo|description)\b[^:\n]*:\s*(\S.*)", re.IGNORECASE),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    One request as it came in. Immutable.

    *path* is without the query. *headers* have lower-case names. *body* is the parsed
    JSON, or the bytes where they are no JSON. The repr leaves out headers and body:
    there may be a key in the one and a picture in the other.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: Any = field(repr=False)
    keep_alive: bool = field(default=True, repr=False)

    def answered_by(self, step: Step) -> RecordedRequest:
        """The same request, with the step that answered it."""
        return RecordedRequest(
            method=self.method,
            path=self.path,
            headers=self.headers,
            body=self.body,
            keep_alive=self.keep_alive,
            step=step,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest(Request):
    """A request and the *step* that answered it: one of the script, or the server's own answer."""

    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """
    What goes over the wire, in this order. Durations are seconds.

    Wait *delay*; send *quick* at once; send the pieces *slow*, *interval* after each;
    send *rest* at once; wait *pause*; do *ending*.
    """

    delay: float = 0.0
    quick: bytes = b""
    slow: tuple[bytes, ...] = ()
    interval: float = 0.0
    rest: bytes = b""
    pause: float = 0.0
    ending: Ending = "keep"


def render(step: Step, request: Request, *, serial: int = 1, model: str = "", closing: bool = False) -> Reply:
    """
    The reply that *step* gives to *request*.

    Args:
        step: What to do.
        request: Whom to answer.
        serial: Makes the completion's id unique.
        model: Echoed where the request names no model.
        closing: The connection ends after this reply, and the reply says so.
    """
    ending: Ending = "close" if closing or not request.keep_alive else "keep"
    healthy = step if isinstance(step, Answer) else Answer()
    body = dump(_healthy_body(healthy, request, serial, model))
    half = len(body) // 2

    def respond(content: bytes = body, status: int = 200, **headers: str) -> bytes:
        return response(status, content, headers=headers, closing=ending != "keep", bodiless=request.method == "HEAD")

    match step:
        case BrokenStream():
            return _break(step, request, serial, model, ending)
        case Answer() | EmptyChoices() | Truncated() | Reset(when="body") if _asks_for_stream(request):
            return _streamed(step, request, serial, model, ending)
        case ModelLoad():
            return Reply(delay=step.seconds, rest=respond(), ending=ending)
        case Drip(part="headers"):
            head = respond().removesuffix(body)
            return Reply(slow=_bytes_of(head), interval=step.interval, rest=body, ending=ending)
        case Drip():
            head = respond().removesuffix(body)
            return Reply(quick=head, slow=_bytes_of(body[:-1]), interval=step.interval, rest=body[-1:], ending=ending)
        case Answer():
            return Reply(rest=respond(), ending=ending)
        case Hang():
            return Reply(delay=math.inf, ending="close")
        case Status():
            later = {} if step.retry_after is None else {"Retry-After": f"{step.retry_after}"}
            content = dump(error_body(step.message or _phrase(step.status), step))
            return Reply(rest=respond(content, step.status, **later), ending=ending)
        case ErrorBody():
            return Reply(rest=respond(dump(error_body(step.message or "Compute error.", step))), ending=ending)
        case EmptyChoices():
            content = dump(completion(healthy, request, serial, model) | {"choices": []})
            return Reply(rest=respond(content), ending=ending)
        case WrongType():
            return Reply(rest=respond(_HTML, step.status, **{"Content-Type": "text/html"}), ending=ending)
        case Truncated(part="json"):
            return Reply(rest=respond(body[:half]), ending=ending)
        case Truncated():
            return Reply(rest=respond()[:-half], ending="close")
        case Garbage(kind="json"):
            return Reply(rest=respond(b"proxy error: Failed to read connection"), ending=ending)
        case Garbage():
            return Reply(rest=b"\x15\x03\x01\x00\x02\x02\x28\r\n\r\n", ending="close")
        case Reset(when="body"):
            return Reply(rest=respond()[:-half], ending="reset")
        case Reset() | Crash():
            return Reply(ending="reset")
        case ModelList():
            return Reply(rest=respond(dump(_model_list(step, request))), ending=ending)
        case _:
            raise AssertionError(f"no bytes are known for {step!r}")


def _streamed(step: Step, request: Request, serial: int, model: str, ending: Ending) -> Reply:
    """A step's answer to a request that asks for a stream."""
    healthy = step if isinstance(step, Answer) else Answer()
    head = stream_head(closing=ending != "keep")
    whole = completion(healthy, request, serial, model)
    if isinstance(step, EmptyChoices):
        return Reply(rest=head + chunked(_event(whole | {"choices": []}), _DONE) + LAST_CHUNK, ending=ending)
    pieces = tuple(chunked(event) for event in (*events(healthy, request, whole), _DONE))
    body = b"".join(pieces)
    match step:
        case Drip(part="headers"):
            return Reply(slow=_bytes_of(head), interval=step.interval, rest=body + LAST_CHUNK, ending=ending)
        case Drip(part="chunks"):
            return Reply(quick=head, slow=pieces, interval=step.interval, rest=LAST_CHUNK, ending=ending)
        case Drip():
            slow = _bytes_of(body)
            return Reply(quick=head, slow=slow, interval=step.interval, rest=LAST_CHUNK, ending=ending)
        case Truncated(part="json"):
            whole_events = b"".join(events(healthy, request, whole))
            return Reply(rest=head + chunked(whole_events[: len(whole_events) // 2]) + LAST_CHUNK, ending=ending)
        case Truncated():
            return Reply(rest=head + body[: len(body) // 2], ending="close")
        case Reset():
            return Reply(rest=head + body[: len(body) // 2], ending="reset")
        case _:
            delay = step.seconds if isinstance(step, ModelLoad) else 0.0
            return Reply(delay=delay, rest=head + body + LAST_CHUNK, ending=ending)


def _break(step: BrokenStream, request: Request, serial: int, model: str, ending: Ending) -> Reply:
    """A stream that ends as *step* says."""
    answer = Answer(text=step.text)
    delivered = events(answer, request, completion(answer, request, serial, model))[: step.chunks]
    sent = stream_head(closing=ending != "keep") + b"".join(chunked(event) for event in delivered)
    error = _event(error_body(step.message or "Compute error.", step))
    match step.how:
        case "error_event":
            return Reply(rest=sent + chunked(b"event: error\n" + error) + LAST_CHUNK, ending=ending)
        case "error":
            return Reply(rest=sent + chunked(error) + LAST_CHUNK, ending=ending)
        case "end":
            return Reply(rest=sent + LAST_CHUNK, ending=ending)
        case "text":
            return Reply(rest=sent + chunked(b"proxy error: Failed to read connection") + LAST_CHUNK, ending=ending)
        case "truncated":
            return Reply(rest=sent, ending="close")
        case "reset":
            return Reply(rest=sent, ending="reset")
        case "hang":
            return Reply(rest=sent, pause=math.inf, ending="close")


_DONE = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"


def stream_head(*, closing: bool = False) -> bytes:
    """The head of a stream, whose body comes in HTTP's chunks."""
    connection = "close" if closing else "keep-alive"
    return (
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
        f"Transfer-Encoding: chunked\r\nConnection: {connection}\r\nDate: {formatdate(usegmt=True)}\r\n\r\n"
    ).encode()


def chunked(*contents: bytes) -> bytes:
    """Each of *contents* as one of HTTP's chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(content), content) for content in contents)


def events(answer: Answer, request: Request, whole: dict[str, Any]) -> list[bytes]:
    """The events of a stream that amounts to the completion *whole*: a word each, then the end, then the usage."""
    message = whole["choices"][0]["message"]
    shared = {name: whole[name] for name in ("id", "created", "model", "system_fingerprint")}
    shared["object"] = "chat.completion.chunk"
    deltas: list[dict[str, str]] = []
    for name in ("reasoning_content", "content"):
        deltas += [{"role": "assistant", name: word} for word in _WORDS.findall(message.get(name) or "")]

    def chunk(delta: dict[str, str], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _event(shared | {"choices": [choice]})

    sent = [chunk(delta) for delta in deltas]
    sent.append(chunk({}, answer.finish_reason))
    options = request.body.get("stream_options") if isinstance(request.body, dict) else None
    if isinstance(options, dict) and options.get("include_usage"):
        sent.append(_event(shared | {"choices": [], "usage": whole["usage"]}))
    return sent


_WORDS = re.compile(r"\s*\S+\s*?(?=\s|$)|\s+")


def _event(document: object) -> bytes:
    return b"data: %b\n\n" % dump(document)


def _bytes_of(content: bytes) -> tuple[bytes, ...]:
    return tuple(content[place : place + 1] for place in range(len(content)))


def _asks_for_stream(request: Request) -> bool:
    return isinstance(request.body, dict) and request.body.get("stream") is True


def response(
    status: int,
    content: bytes,
    *,
    headers: Mapping[str, str] | None = None,
    closing: bool = False,
    bodiless: bool = False,
) -> bytes:
    """One HTTP/1.1 response. The length is always told; 204 and 304 never have a body."""
    bodiless = bodiless or status in (204, 304)
    lines = {
        "Content-Type": _JSON,
        "Content-Length": f"{len(content)}",
        "Date": formatdate(usegmt=True),
        **({"Connection": "close"} if closing else {"Connection": "keep-alive", "Keep-Alive": "timeout=5"}),
        **(headers or {}),
    }
    if status in (204, 304):
        del lines["Content-Length"], lines["Content-Type"]
    head = f"HTTP/1.1 {status} {_phrase(status)}\r\n" + "".join(f"{name}: {text}\r\n" for name, text in lines.items())
    return head.encode() + b"\r\n" + (b"" if bodiless else content)


def completion(answer: Answer, request: Request, serial: int, model: str) -> dict[str, Any]:
    """The JSON of a chat completion, as LM Studio shapes it."""
    asked = request.body.get("model") if isinstance(request.body, dict) else None
    used = answer.model or (asked if isinstance(asked, str) and asked else model)
    text = caption(request) if answer.text is None else answer.text
    message: dict[str, Any] = {"role": "assistant", "content": text, "tool_calls": []}
    if answer.reasoning_content is not None:
        message["reasoning_content"] = answer.reasoning_content
    counts = len(_text_of(request).split()), len(f"{text} {answer.reasoning_content or ''}".split())
    return {
        "id": f"chatcmpl-{serial:08d}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": used,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}],
        "usage": {"prompt_tokens": counts[0], "completion_tokens": counts[1], "total_tokens": sum(counts)},
        "stats": {},
        "system_fingerprint": used,
    }


def caption(request: Request) -> str:
    """
    A caption made of nothing but the request.

    The main colours that an encoder found are named; else a line such as
    ``Description of the picture: …`` is taken up; without one, the caption carries a
    checksum, so that other requests get other captions.
    """
    text = _text_of(request)
    if found := _MAIN_COLOURS.search(text):
        *most, last = _COLOUR.findall(found[1])[:3]
        return f"A picture in {', '.join(most)} and {last}." if most else f"A picture in {last}."
    for description in _DESCRIPTIONS:
        if found := description.search(text):
            return f"A picture: {found[1].strip()[:160]}"
    return f"A picture ({zlib.crc32(dump(request.body)):08x})."


def error_body(message: str, step: Status | ErrorBody | BrokenStream) -> dict[str, Any]:
    """The error in the step's envelope."""
    match step.envelope:
        case "string":
            return {"error": message}
        case "nested":
            return {"error": {"message": message, "type": step.type, "param": None, "code": step.code}}
        case "nested+message":
            return {"error": {"message": message}, "message": message}


def dump(content: object) -> bytes:
    """Compact JSON; bytes stand for themselves."""
    if isinstance(content, bytes):
        return content
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _healthy_body(answer: Answer, request: Request, serial: int, model: str) -> dict[str, Any]:
    """What a healthy server says, by the path that was asked."""
    if request.path == LOAD_PATH:
        name = _model_of(request)
        return {"type": "llm", "instance_id": name, "load_time_seconds": 0.1, "status": "loaded"}
    if request.path == EMBEDDINGS_PATH:
        return _embeddings(answer, request, model)
    return completion(answer, request, serial, model)


def _embeddings(answer: Answer, request: Request, model: str) -> dict[str, Any]:
    """A vector of eight numbers for each text: the same for the same text, another for another."""
    asked = request.body.get("input") if isinstance(request.body, dict) else None
    texts = asked if isinstance(asked, list) else [asked]
    vectors = [[byte / 255 for byte in hashlib.sha256(dump(text)).digest()[:8]] for text in texts]
    count = sum(len(str(text).split()) for text in texts)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": place, "embedding": vector} for place, vector in enumerate(vectors)],
        "model": answer.model or _model_of(request) or model,
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }


def _model_of(request: Request) -> str:
    asked = request.body.get("model") if isinstance(request.body, dict) else None
    return asked if isinstance(asked, str) else ""


def _model_list(step: ModelList, request: Request) -> dict[str, Any]:
    if request.path == "/api/v1/models":
        return {"models": [_newer_entry(name, name in step.loaded) for name in step.models]}
    models: list[dict[str, Any]] = [
        {"id": name, "object": "model", "owned_by": "organization_owner"} for name in step.models
    ]
    if request.path == "/api/v0/models":
        models = [_older_entry(model["id"], model["id"] in step.loaded) for model in models]
    return {"data": models, "object": "list"}


def _newer_entry(name: str, loaded: bool) -> dict[str, Any]:
    instance = {"id": name, "config": {"context_length": 4096, "parallel": 4}}
    return {
        "type": "llm",
        "key": name,
        "display_name": name,
        "loaded_instances": [instance] if loaded else [],
        "max_context_length": 32768,
        "capabilities": {"vision": True, "trained_for_tool_use": False},
    }


def _older_entry(name: str, loaded: bool) -> dict[str, Any]:
    entry = {"id": name, "object": "model", "type": "vlm", "max_context_length": 32768}
    return entry | ({"state": "loaded", "loaded_context_length": 4096} if loaded else {"state": "not-loaded"})


def _text_of(request: Request) -> str:
    """Every text in the request's messages, one below the other."""
    messages = request.body.get("messages") if isinstance(request.body, dict) else None
    texts: list[str] = []
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        parts = content if isinstance(content, list) else [{"text": content}]
        texts += [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return "\n".join(texts)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
