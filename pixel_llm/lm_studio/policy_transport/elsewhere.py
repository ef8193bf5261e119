"""The same request to another model or another server, for the fallback steps ``model`` and ``endpoint``."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.lm_studio.endpoint import parse_endpoint, public_address
from pixel_llm.lm_studio.policy_transport.families import family_of
from pixel_llm.lm_studio.policy_transport.reply import parse
from pixel_llm.lm_studio.policy_transport.sending import CREDENTIALS, held_body

#: Where an API begins in a path, such as ``/openai/v1``, and what of it is called.
_API_PATH = re.compile(r"(?P<root>.*?/v\d+)(?P<call>/.*)")


def elsewhere(request: Any, kind: str, place: str) -> Any:
    """
    *request*, to another model or endpoint.

    Args:
        request: A request as attempts get it.
        kind: ``model`` or ``endpoint``.
        place: The model's name, or a base URL such as ``http://127.0.0.1:1235/v1``.

    Raises:
        ValidationError: If the request names no model that another could stand for.
    """
    return _to_model(request, place) if kind == "model" else _to_endpoint(request, place)


def model_of(request: Any) -> str | None:
    """The model that the request names; None if it names none."""
    document = parse(held_body(request) or b"")
    model = document.get("model") if isinstance(document, dict) else None
    return model if isinstance(model, str) else None


def _to_model(request: Any, model: str) -> Any:
    document = parse(held_body(request) or b"")
    if not isinstance(document, dict) or "model" not in document:
        raise ValidationError(
            f"the request names no model, so {model} can't stand in for it", error_code=ErrorCode.ERR_VAL_MISSING_FIELD
        )
    body = json.dumps(document | {"model": model}, ensure_ascii=False, separators=(",", ":")).encode()
    return _copy(request, request.url, _without(request, "content-length"), body)


def _to_endpoint(request: Any, address: str) -> Any:
    endpoint = parse_endpoint(address)
    base = httpx.URL(endpoint.base_url)
    path = request.url.raw_path.decode("ascii")  # the query included
    call = _API_PATH.match(path)
    root = base.raw_path.decode("ascii").rstrip("/")
    url = httpx.URL(f"{endpoint.address}{root}{call['call'] if call and root else path}")
    headers = _without(request, "host")
    if public_address(request.url) != endpoint.address:  # keys are for the server they were given for
        headers = [(name, value) for name, value in headers if name.lower().decode() not in CREDENTIALS]
    return _copy(request, url, [(b"Host", url.netloc), *headers], held_body(request))


def _without(request: Any, dropped: str) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in request.headers.raw if name.lower() != dropped.encode()]


def _copy(request: Any, url: Any, headers: list[tuple[bytes, bytes]], body: bytes | None) -> Any:
    family = family_of(request) or httpx
    url = url if family_of(url) is family else str(url)
    if body is None:
        return family.Request(
            request.method, url, headers=headers, stream=request.stream, extensions=request.extensions
        )
    return family.Request(request.method, url, headers=headers, content=body, extensions=request.extensions)
