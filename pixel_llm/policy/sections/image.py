"""The `lm_studio.image` section: how a picture is written for the model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pixel_llm.policy.kinds import Choice, Integer
from pixel_llm.policy.settings import setting


class ImageFormat(StrEnum):
    """How pictures are encoded. There are no others: LM Studio refuses some webp files, and every image address."""

    AUTO = "auto"
    PNG = "png"
    JPEG = "jpeg"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """How a picture is written for the model. Immutable, safe to share between threads."""

    max_side: int = setting(
        # 5120² is the most pixels that LM Studio takes; below 32 there is nothing left to see.
        Integer(32, 5120),
        "The longest side that is sent, in pixels; larger pictures are scaled down, smaller ones never up. LM Studio "
        "scales down by itself, so that more only takes time.",
        default=1024,
        example=1024,
    )
    format: ImageFormat = setting(
        Choice(ImageFormat),
        "png keeps every pixel, jpeg is several times smaller for photographs; auto takes what fits the picture.",
        default=ImageFormat.AUTO,
        example="auto",
    )
    quality: int = setting(
        Integer(1, 100),
        "The quality of JPEG: 90 shows no traces, below 50 fine detail is lost.",
        default=90,
        example=90,
    )
