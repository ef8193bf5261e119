"""
Steps as bytes: which response belongs to a request, and how it reaches the client.

Nothing here touches a socket.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Literal

from pixel_llm.testing.bodies import completion, dump, error_body, healthy_body, model_list
from pixel_llm.testing.request import Request
from pixel_llm.testing.steps import (
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
    body = dump(healthy_body(healthy, request, serial, model))
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
            return Reply(rest=respond(dump(model_list(step, request))), ending=ending)
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


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
