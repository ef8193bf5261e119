"""Does the model answer, and does it take pictures?"""

from __future__ import annotations

import time

import numpy as np

from pixel_llm.doctor.case import Case
from pixel_llm.doctor.findings import Finding, failed, ok, skipped, warning
from pixel_llm.doctor.models import state_of
from pixel_llm.errors import APIError
from pixel_llm.hybrid.describing import picture_tools
from pixel_llm.lm_studio import ChatRequest
from pixel_llm.lm_studio.replies import NO_WORDS, TrialReply, is_same_model
from pixel_llm.policy import Vision, WithoutVision

#: Pixels of each side of the picture that is sent: some models take none that is smaller than their patches.
_SIDE = 64


def check_round_trip(case: Case) -> Finding:
    """Ask the model for one token."""
    started = time.monotonic()
    reply = case.client.try_chat(_one_token(case))
    return judge_round_trip(reply, case.config.model, time.monotonic() - started)


def check_vision(case: Case) -> Finding:
    """Send the model a picture, if the policy has pictures sent, and LM Studio does not say that it is in vain."""
    config = case.config
    if config.vision is Vision.DESCRIPTION:
        return skipped("lm_studio.vision: description sends no pictures")
    state = state_of(config.model, case.states or ())
    if state is not None and state.vision is False:
        return judge_blindness(f"{state.id} is no vision model, says LM Studio", config.without_vision)
    tools = picture_tools()
    picture = tools.Picture(np.full((_SIDE, _SIDE, 3), 128, np.uint8))
    try:
        case.client.try_chat(_one_token(case, tools.to_data_uri(picture, config.image)))
    except APIError as error:
        if error.details.get("vision") is not False:
            raise
        return judge_blindness(str(error), config.without_vision)
    return ok("the model takes pictures")


def judge_round_trip(reply: TrialReply, model: str, seconds: float) -> Finding:
    """What it means that *reply* came after *seconds*, and *model* was asked."""
    after = f"after {seconds:.2f} s"
    if not is_same_model(reply.model, model):
        return warning(
            f"one token came {after}, from {reply.model}; {model} was asked",
            "load the model that lm_studio.model names, or name the one that is loaded",
        )
    if reply.has_text:
        return ok(f"one token came {after}")
    if reply.has_reasoning:
        return warning(
            f"one token came {after}, but only of reasoning: the model thinks before it answers",
            "caption a picture; if only reasoning comes, raise lm_studio.generation.max_tokens, or turn thinking off",
        )
    return warning(f"an answer without a word came {after}", NO_WORDS)


def judge_blindness(message: str, without_vision: WithoutVision) -> Finding:
    """What it means that the model takes no pictures."""
    if without_vision is WithoutVision.DESCRIPTION:
        return warning(f"{message}; captions come of the description alone, and are degraded", "load a vision model")
    return failed(message, "load a vision model, or set lm_studio.vision or lm_studio.without_vision: description")


def _one_token(case: Case, image: str | None = None) -> ChatRequest:
    return ChatRequest(model=case.config.model, prompt="Say yes.", image_data_uri=image, max_tokens=1, temperature=0.0)
