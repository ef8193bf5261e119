"""What ``pixel_llm.generate`` calls, whose bounds are made of theirs."""

from __future__ import annotations

import dataclasses

from pixel_llm.policy.bounds.durations import shorter
from pixel_llm.policy.bounds.fallbacks import before_fallback
from pixel_llm.policy.sections.document import PolicyConfig
from pixel_llm.policy.sections.lm_studio import Vision
from pixel_llm.policy.sections.target import TargetPolicy

#: The target that calls others, and those it calls one after the other.
GENERATE = "pixel_llm.generate"
INSIDE_GENERATE = ("encoder.load", "encoder.forward", "lm_studio.chat")
CHAT = "lm_studio.chat"

#: A target without layers.
NOTHING = TargetPolicy()


def called_by_generate(config: PolicyConfig) -> tuple[str, ...]:
    """The targets that generate() calls, one after the other."""
    return (CHAT,) if config.lm_studio.vision is Vision.IMAGE else INSIDE_GENERATE


def passed_by(target: str) -> tuple[str, ...]:
    """The targets that a call of *target* may go through: itself, and what generate() calls."""
    return (target, *INSIDE_GENERATE) if target == GENERATE else (target,)


def chat_inside(config: PolicyConfig) -> TargetPolicy:
    """The chat as generate() calls it: within its caller's deadline."""
    chat, generate = config.targets.get(CHAT, NOTHING), before_fallback(config.targets.get(GENERATE, NOTHING))
    return before_fallback(dataclasses.replace(chat, deadline=shorter(chat.deadline, generate.deadline)))
