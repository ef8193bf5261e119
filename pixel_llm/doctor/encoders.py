"""Can the encoder be loaded?"""

from __future__ import annotations

from pixel_llm.doctor.case import Case
from pixel_llm.doctor.findings import Finding, ok, skipped
from pixel_llm.hybrid.describing import picture_tools
from pixel_llm.policy import Vision, WithoutVision


def check_encoder(case: Case) -> Finding:
    """Load the encoder, if any call can need it."""
    vision, without = case.config.vision, case.config.without_vision
    if vision is Vision.IMAGE and without is WithoutVision.FAIL:
        return skipped("lm_studio.vision: image needs no encoder")
    config = case.loaded.config.encoder
    picture_tools().build_encoder(config).load()
    return ok(f"{config.type} is ready")
