"""Batches under a limit, and what to do when memory runs out all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from pixel_llm.encoder.devices import CPU
from pixel_llm.encoder.picture import Picture
from pixel_llm.encoder.protocol import Encoding
from pixel_llm.errors import EncoderError, ErrorCode

#: Encodes a batch on a device.
Pass: TypeAlias = Callable[[Sequence[Picture], torch.device], list[Encoding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    How much an encoder takes on at once. Immutable.

    Attributes:
        max_size: The most pictures of a batch, at least 1.
        max_memory: The most bytes that a batch may need by estimate; a picture that needs more is a batch of its own.
        on_out_of_memory: What is done when memory runs out, in order: ``halve`` the batch again and again,
            ``cpu`` computes it there, ``raise`` ends the list.
    """

    max_size: int = 16
    max_memory: int = 256 * 1024 * 1024
    on_out_of_memory: tuple[str, ...] = ("halve", "cpu")


def batches(pictures: Iterable[Picture], bytes_of: Callable[[Picture], int], limits: Limits) -> Iterator[list[Picture]]:
    """Divide *pictures*, in order, into batches within *limits*."""
    batch: list[Picture] = []
    taken = 0
    for picture in pictures:
        needed = bytes_of(picture)
        if batch and (len(batch) >= limits.max_size or taken + needed > limits.max_memory):
            yield batch
            batch, taken = [], 0
        batch.append(picture)
        taken += needed
    if batch:
        yield batch


def encode_in_batches(
    pictures: Iterable[Picture],
    bytes_of: Callable[[Picture], int],
    encode: Pass,
    device: torch.device,
    limits: Limits,
) -> list[Encoding]:
    """
    Encode all *pictures* on *device*, batch by batch.

    Raises:
        EncoderError: ERR_ENC_OUT_OF_MEMORY if memory does not suffice and no step of the policy helps; any other
            error of *encode* at once.
    """
    steps = limits.on_out_of_memory
    if "raise" in steps:
        steps = steps[: steps.index("raise")]
    return [
        encoding
        for batch in batches(pictures, bytes_of, limits)
        for encoding in _with_recovery(batch, encode, device, steps)
    ]


def _with_recovery(
    batch: Sequence[Picture], encode: Pass, device: torch.device, steps: Sequence[str]
) -> list[Encoding]:
    """Each step stays open to what the steps before it lead to, so that `[cpu, halve]` halves on the CPU."""
    try:
        return encode(batch, device)
    except EncoderError as error:
        if error.error_code is not ErrorCode.ERR_ENC_OUT_OF_MEMORY:
            raise
        step = next((step for step in steps if _helps(step, batch, device)), None)
        if step is None:
            raise
    # Here, not above: as long as the error is handled, its traceback keeps the tensors of the failed pass.
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if step == "cpu":
        return _with_recovery(batch, encode, CPU, steps)
    middle = len(batch) // 2
    return [
        encoding
        for half in (batch[:middle], batch[middle:])
        for encoding in _with_recovery(half, encode, device, steps)
    ]


def _helps(step: str, batch: Sequence[Picture], device: torch.device) -> bool:
    return len(batch) > 1 if step == "halve" else device.type != "cpu"
