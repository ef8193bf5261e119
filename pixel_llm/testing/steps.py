"""
What the scripted LM Studio can be told to do: one frozen class for each behaviour.

The classes are data only; :mod:`pixel_llm.testing.wire` knows their bytes. The
YAML name of a step is its class name in snake case (``ModelLoad``: ``model_load``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pixel_llm.errors import ValidationError
from pixel_llm.policy.durations import format_duration

#: The path of a request that a step with ``path=None`` answers.
CHAT_PATH = "/v1/chat/completions"

LOAD_PATH = "/api/v1/models/load"
EMBEDDINGS_PATH = "/v1/embeddings"

#: What the server lists unless told otherwise.
DEFAULT_MODELS = ("qwen2.5-vl-7b-instruct",)

Seconds = Annotated[float, "seconds"]
Count = Annotated[int, "count"]
HttpStatus = Annotated[int, "status"]
Envelope = Literal["string", "nested", "nested+message"]

_LONGEST = 86400.0
_MOST = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """
    One thing the server does. Immutable; a step may stand in a script many times.

    *path* names the requests it waits for, such as ``/v1/models``; None means
    ``POST /v1/chat/completions``. Each path has its own order of steps.

    Raises:
        ValidationError: If a field has a value that no server could act on.
    """

    path: str | None = None

    def __post_init__(self) -> None:
        for name, hint in field_types(type(self)).items():
            if complaint := complain(getattr(self, name), hint):
                raise ValidationError(f"{type(self).__name__}.{name} {complaint}")
        if self.path is not None and not self.path.startswith("/"):
            raise ValidationError(f"path must start with / (got {self.path!r})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Step):
    """
    A whole and healthy answer: one JSON body, or a stream of words where the request asks for one.

    Without *text* the server makes up a caption: the request's own description of
    the picture if it carries one, the same words for the same request always.
    ``text=""`` with *reasoning_content* is a model that thought and said nothing.
    *model* overrides the model name of the request, which is echoed otherwise.
    """

    text: str | None = None
    finish_reason: Literal["stop", "length"] = "stop"
    reasoning_content: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoad(Answer):
    """An answer that comes *seconds* late, as the first one does while the model loads."""

    seconds: Seconds = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drip(Answer):
    """
    An answer whose *part* comes one byte at a time, *interval* seconds after each byte.

    No read on the client's side waits long, yet all of them together take minutes. ``part="chunks"`` is a model that
    speaks: each chunk of a stream comes whole, *interval* seconds after the one before; a body that is no stream comes
    byte by byte.
    """

    part: Literal["body", "headers", "chunks"] = "body"
    interval: Seconds = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang(Step):
    """The request is accepted and never answered, until the client leaves or the server closes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _ErrorStep(Step):
    """*type* and *code* exist in the nested envelope only; None is sent as null."""

    message: str | None = None
    envelope: Envelope = "nested"
    type: str | None = None
    code: str | None = None

    def __post_init__(self) -> None:
        Step.__post_init__(self)
        if self.envelope != "nested" and (self.type is not None or self.code is not None):
            raise ValidationError(f"type and code need envelope 'nested' (got {self.envelope!r})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(_ErrorStep):
    """
    An HTTP status with an error body in one of LM Studio's three envelopes.

    Without *message* the body has the status's own phrase. *retry_after* is sent as
    it is: a number of seconds, or any text, such as an HTTP date.
    """

    status: HttpStatus = 500
    retry_after: float | int | str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody(_ErrorStep):
    """An error that comes with HTTP 200: the status says fine, the body does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenStream(_ErrorStep):
    """
    A stream of *text* that breaks after so many *chunks*, each a word, in one of the ways that were seen:

    - ``error_event``: ``event: error``, then the error in *envelope*; ``error``: the same without the ``event:`` line.
    - ``end``: HTTP ends as it should, with neither ``finish_reason`` nor ``[DONE]``.
    - ``text``: a router's plain text ends it.
    - ``truncated``: the connection is closed without HTTP's end; ``reset``: it is reset.
    - ``hang``: nothing more comes, until the client leaves or the server closes.

    Requests that ask for no stream get it as well.
    """

    how: Literal["error_event", "error", "end", "text", "truncated", "reset", "hang"] = "error_event"
    chunks: Count = 2
    text: str = "A picture that nobody will see to its end."


@dataclass(frozen=True, slots=True, kw_only=True)
class EmptyChoices(Step):
    """A healthy answer with ``"choices": []``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongType(Step):
    """An HTML page where JSON should be, as a proxy in front of the server sends it."""

    status: HttpStatus = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncated(Step):
    """
    An answer that is cut in the middle.

    ``part="body"``: fewer bytes than ``Content-Length`` promised, then a clean close.
    ``part="json"``: HTTP is whole, the JSON text in it stops half-way.
    """

    part: Literal["body", "json"] = "body"


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage(Step):
    """Bytes that are no HTTP at all, or sound HTTP that calls something JSON which is not."""

    kind: Literal["http", "json"] = "http"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset(Step):
    """A TCP reset, *before* any byte of the response or in the middle of its *body*."""

    when: Literal["before", "body"] = "before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash(Step):
    """Every open connection is reset, the port refuses for *down* seconds, then the server is back."""

    down: Seconds = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse(Step):
    """
    The port refuses connections for *seconds*, from when the step before it was served.

    It answers no request. Connections that wait for their next request are closed;
    answers under way are finished.
    """

    seconds: Seconds = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelList(Step):
    """
    The list of models: how the server answers ``GET`` to its three lists by itself. Not for scripts.

    LM Studio's own two lists tell which are *loaded*.
    """

    models: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()


#: Everything a script may contain, by its YAML name.
STEP_TYPES: dict[str, type[Step]] = {
    re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower(): cls
    for cls in (
        Answer, BrokenStream, Crash, Drip, EmptyChoices, ErrorBody, Garbage, Hang, ModelLoad, Refuse, Reset, Status,
        Truncated, WrongType,
    )
}  # fmt: skip


def field_types(step_type: type[Step]) -> dict[str, Any]:
    """The fields of a step and their types, in the order of their definition."""
    hints = get_type_hints(step_type, include_extras=True)
    return {field.name: hints[field.name] for field in fields(step_type)}


def complain(value: object, hint: Any) -> str | None:
    """Say what a field of type *hint* must be, if *value* is not that."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint == Seconds:
        fits = number and 0 <= value <= _LONGEST  # type: ignore[operator]  # a number, by the first half
        expected = f"from 0 to {_LONGEST:g} seconds"
    elif hint == Count:
        fits = number and isinstance(value, int) and 0 <= value <= _MOST
        expected = f"a whole number from 0 to {_MOST}"
    elif hint == HttpStatus:
        fits = number and isinstance(value, int) and 200 <= value <= 599
        expected = "a whole number from 200 to 599"
    elif get_origin(hint) is Literal:
        fits = value in get_args(hint)
        expected = f"one of {', '.join(get_args(hint))}"
    else:
        options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        classes = tuple(get_origin(option) or option for option in options)
        fits = isinstance(value, classes) and not isinstance(value, bool)
        expected = "a number or text" if float in classes else "text"
    return None if fits else f"must be {expected} (got {value!r})"


def complain_of_last(step: Step) -> str | None:
    """Say why *step* cannot be the one that serves for ever, if it cannot."""
    if isinstance(step, Refuse):
        return "must be a step that answers requests (got refuse)"
    return "must have no path: it serves chat completions" if step.path is not None else None


def describe_step(step: Step) -> str:
    """The step in a few words, such as ``status 503 (retry_after 2)``."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(step).__name__).lower()
    left_out = {"path", "models", "loaded"}
    if isinstance(step, Status):
        words += f" {step.status}"
        left_out.add("status")
    values = {field.name: getattr(step, field.name) for field in fields(step) if field.name not in left_out}
    defaults = {field.name: field.default for field in fields(step)}
    types = field_types(type(step))
    told = [
        f"{name} {format_duration(value) if types[name] == Seconds else _shorten(str(value))}"
        for name, value in values.items()
        if value != defaults[name]
    ]
    return f"{words} ({', '.join(told)})" if told else words


def _shorten(text: str, longest: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
