"""The `encoder` section: how features and a description are got from a picture."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pixel_llm.policy.kinds import Choice
from pixel_llm.policy.settings import setting


class EncoderType(StrEnum):
    """The encoders there are."""

    PATCH = "patch"


class Device(StrEnum):
    """Where the encoder computes."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """The vision encoder. Immutable, safe to share between threads."""

    type: EncoderType = setting(
        Choice(EncoderType),
        "patch measures colours, light, edges and texture patch by patch; it needs no checkpoint.",
        default=EncoderType.PATCH,
        example="patch",
    )
    device: Device = setting(
        Choice(Device),
        "Where torch computes; auto takes a GPU where there is one.",
        default=Device.AUTO,
        example="auto",
    )
