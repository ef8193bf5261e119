"""Rules across the fields of the `encoder` section."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_llm.errors import Problem
from pixel_llm.policy.nodes import Node, format_path
from pixel_llm.policy.sections.document import PolicyConfig
from pixel_llm.policy.sections.encoder import Device, Dtype, EncoderType


def check_encoder(policy: PolicyConfig, document: Node) -> Iterator[Problem]:
    """What keeps the encoder from ever being loaded, whatever machine it is on."""
    encoder = policy.encoder
    needed = {EncoderType.VIT: "checkpoint", EncoderType.TRANSFORMERS: "model"}.get(encoder.type)
    if needed is not None and getattr(encoder, needed) is None:
        yield _problem(document, "type", f"{encoder.type} needs `{needed}`: say where it is", "PL040")
    if encoder.type is EncoderType.PATCH and encoder.dtype is not Dtype.FLOAT32:
        message = f"patch measures in float32 alone (got {encoder.dtype}): leave dtype out"
        yield _problem(document, "dtype", message, "PL041")
    elif encoder.dtype is Dtype.FLOAT16 and encoder.device is Device.CPU:
        message = "float16 needs a GPU, and device is cpu: use float32 or bfloat16"
        yield _problem(document, "dtype", message, "PL041")


def _problem(document: Node, key: str, message: str, rule: str) -> Problem:
    path = ("encoder", key)
    return Problem(document.find(path).place, format_path(path), message, rule)
