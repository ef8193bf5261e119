"""Texts in, vectors out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.lm_studio.replies import RawReply, count_of, is_same_model, make_no_sense, read_document


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingReply:
    """
    One vector for each text, in the order of the texts. Immutable.

    *vectors* all have the same length, and only finite numbers. *model* is who answered, *requested_model* who was
    asked; *prompt_tokens* is None where the server does not tell.
    """

    vectors: tuple[tuple[float, ...], ...] = field(repr=False)
    model: str
    requested_model: str
    prompt_tokens: int | None = None

    @property
    def model_matches(self) -> bool:
        """True if the model that answered is the one asked for; vectors of different models can't be compared."""
        return is_same_model(self.model, self.requested_model)


def embeddings_payload(texts: Sequence[str], model: str) -> dict[str, Any]:
    """
    The JSON that asks for the vectors of *texts*.

    Raises:
        ValidationError: If *texts* is no list of texts, or has none.
    """
    if (
        isinstance(texts, str | bytes)
        or not isinstance(texts, Sequence)
        or not all(isinstance(text, str) for text in texts)
    ):
        raise ValidationError(
            f"texts must be a list of texts (got {type(texts).__name__})",
            error_code=ErrorCode.ERR_VAL_INVALID_RANGE,
            details={"field": "texts"},
        )
    if not texts:
        raise ValidationError(
            "texts must not be empty", error_code=ErrorCode.ERR_VAL_EMPTY_INPUT, details={"field": "texts"}
        )
    return {"model": model, "input": list(texts), "encoding_format": "float"}


def read_embeddings(reply: RawReply, requested_model: str, count: int) -> EmbeddingReply:
    """
    Read an answer to ``/embeddings``, for *count* texts. Vectors are put in the order of their ``index``.

    Raises:
        APIError: If the server reports an error, with any status, or the answer makes no sense.
    """
    document = read_document(reply, model=requested_model)
    entries = document.get("data")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        make_no_sense(reply, "holds no list of vectors")
    if len(entries) != count:
        make_no_sense(reply, f"holds {len(entries)} vectors for {count} texts")
    places = [entry.get("index", place) for place, entry in enumerate(entries)]
    if not all(type(place) is int for place in places) or sorted(places) != list(range(count)):
        make_no_sense(reply, "does not tell which vector belongs to which text")
    vectors: list[tuple[float, ...]] = [()] * count
    for place, entry in zip(places, entries, strict=True):
        vector = entry.get("embedding")
        if not (isinstance(vector, list) and vector and all(map(_is_number, vector))):
            make_no_sense(reply, "holds a vector that is no list of finite numbers")
        vectors[place] = tuple(map(float, vector))
    if len({len(vector) for vector in vectors}) != 1:
        make_no_sense(reply, "holds vectors of different lengths")
    model = document.get("model")
    return EmbeddingReply(
        vectors=tuple(vectors),
        model=model if isinstance(model, str) and model else requested_model,
        requested_model=requested_model,
        prompt_tokens=count_of(document.get("usage"), "prompt_tokens"),
    )


def _is_number(value: Any) -> bool:
    return (type(value) is float and math.isfinite(value)) or (type(value) is int and abs(value) < 2**53)
