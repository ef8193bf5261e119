"""
LM Studio's own list of models: what each can do, and whether it is loaded.

``/v1/models`` tells neither. The list is at ``/api/v1/models`` since LM Studio 0.4, at ``/api/v0/models`` before;
other servers have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pixel_llm.errors import APIError, ErrorCode
from pixel_llm.lm_studio.replies import RawReply, error_in, is_same_model, make_no_sense, parse_body, read_document

#: Where the list is, newest first.
STATE_PATHS = ("/api/v1/models", "/api/v0/models")
LOAD_PATH = "/api/v1/models/load"

Kind = Literal["llm", "vlm", "embeddings"]
_KINDS: Mapping[str, Kind] = {"llm": "llm", "vlm": "vlm", "embeddings": "embeddings", "embedding": "embeddings"}

#: How servers say that they don't have a path: LM Studio itself does it with 200.
_ABSENT_STATUSES = (404, 405, 501)
_ABSENT_TEXT = "unexpected endpoint"


@dataclass(frozen=True, slots=True)
class ModelState:
    """
    One model that LM Studio has downloaded. Immutable.

    *vision* says whether it takes pictures, *loaded* whether it answers at once; context lengths are in tokens. None
    stands for what the server does not tell; *loaded_context_length* is known of loaded models only.
    """

    id: str
    kind: Kind
    loaded: bool
    vision: bool | None = None
    max_context_length: int | None = None
    loaded_context_length: int | None = None


def is_absent(reply: RawReply) -> bool:
    """True if *reply* says that the server does not have what was asked for."""
    if reply.status in _ABSENT_STATUSES or (reply.status == 200 and "html" in reply.content_type):
        return True
    document = parse_body(reply)
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    return isinstance(error, str) and _ABSENT_TEXT in error.lower()


def read_model_states(reply: RawReply) -> tuple[ModelState, ...]:
    """
    Read LM Studio's list, of either version. Models of kinds that are not known here are left out.

    Raises:
        APIError: If the server reports an error, with any status, or the list makes no sense.
    """
    document = read_document(reply)
    entries = document.get("models", document.get("data"))
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        make_no_sense(reply, "holds no list of models")
    try:
        states = [_read_newer(entry) if "key" in entry else _read_older(entry) for entry in entries]
    except _StrangeError as strange:
        make_no_sense(reply, f"lists a model whose {strange}")
    return tuple(state for state in states if state is not None)


def read_loaded(reply: RawReply, model: str) -> None:
    """
    Read an answer to the request to load *model*.

    Raises:
        APIError: If it was not loaded.
    """
    document = read_document(reply, model=model)
    status = document.get("status")
    if status is not None and status != "loaded":
        raise APIError(
            f"{reply.address} has not loaded {model}: status {str(status)[:40]!r}; look into LM Studio's log",
            error_code=ErrorCode.ERR_API_SERVER_ERROR,
            details={"url": reply.address, "status": reply.status, "model": model},
        )


def read_warmed_up(reply: RawReply, model: str) -> None:
    """
    Read an answer to a chat that was only to load *model*: what it says does not matter.

    Raises:
        APIError: If it is an error.
    """
    document = parse_body(reply)
    if not 200 <= reply.status < 300 or not isinstance(document, dict) or document.get("error"):
        raise error_in(reply, document, model=model)


def is_loaded(model: str, states: Iterable[ModelState]) -> bool:
    """True if *states* say that *model* is loaded."""
    return any(state.loaded and is_same_model(state.id, model) for state in states)


class _StrangeError(Exception):
    """A field is not what it must be; its text says which, and what it must be."""


def _read_newer(entry: dict[str, Any]) -> ModelState | None:
    kind = _kind_of(entry)
    if kind is None:
        return None
    instances = _field(entry, "loaded_instances", list, [])
    abilities = _field(entry, "capabilities", dict, {})
    vision = _field(abilities, "vision", bool, None)
    first = instances[0] if instances else {}
    settings = first.get("config") if isinstance(first, dict) else None
    return ModelState(
        id=_name(entry, "key"),
        kind="vlm" if kind == "llm" and vision else kind,
        loaded=bool(instances),
        vision=vision,
        max_context_length=_field(entry, "max_context_length", int, None),
        loaded_context_length=_field(settings, "context_length", int, None) if isinstance(settings, dict) else None,
    )


def _read_older(entry: dict[str, Any]) -> ModelState | None:
    kind = _kind_of(entry)
    if kind is None:
        return None
    return ModelState(
        id=_name(entry, "id"),
        kind=kind,
        loaded=_field(entry, "state", str, "") == "loaded",
        vision=kind == "vlm",
        max_context_length=_field(entry, "max_context_length", int, None),
        loaded_context_length=_field(entry, "loaded_context_length", int, None),
    )


def _kind_of(entry: dict[str, Any]) -> Kind | None:
    return _KINDS.get(_field(entry, "type", str, ""))


def _name(entry: dict[str, Any], name: str) -> str:
    value: str = _field(entry, name, str, None) or _strange(name, str)
    return value


def _field(fields: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    value = fields.get(name)
    if value is None:
        return default
    return value if type(value) is kind else _strange(name, kind)


def _strange(name: str, kind: type) -> Any:
    raise _StrangeError(f"{name} is no {kind.__name__}")
