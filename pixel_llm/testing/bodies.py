"""
What the scripted LM Studio answers, as JSON.

The shapes are LM Studio's: OpenAI's chat completion with ``tool_calls: []`` always there, and three error envelopes
side by side.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import zlib
from typing import Any

from pixel_llm.testing.request import Request
from pixel_llm.testing.steps import EMBEDDINGS_PATH, LOAD_PATH, Answer, BrokenStream, ErrorBody, ModelList, Status

#: "Main colours: light blue 55 % (in the upper part), green 31 % (…)", as the patch encoder writes it.
_MAIN_COLOURS = re.compile(r"Main colours: ([^.]* \d+ %)")
_COLOUR = re.compile(r"([a-z][a-z ]*) \d+ %")
#: How a description of the picture is known: by the encoder's own first words, or by a label in front of it.
_DESCRIPTIONS = (
    re.compile(r"(\bA \w+ picture of \d+\D\d+ pixels.*)"),
    re.compile(r"\b(?:picture|image|photo|description)\b[^:\n]*:\s*(\S.*)", re.IGNORECASE),
)


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


def healthy_body(answer: Answer, request: Request, serial: int, model: str) -> dict[str, Any]:
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


def model_list(step: ModelList, request: Request) -> dict[str, Any]:
    """The models of *step*, in the form that the path asks for."""
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


def dump(content: object) -> bytes:
    """Compact JSON; bytes stand for themselves."""
    if isinstance(content, bytes):
        return content
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
