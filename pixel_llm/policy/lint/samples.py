"""Parts that the samples on the rules' pages share."""

from __future__ import annotations


def chat(settings: str) -> str:
    """A policy that says *settings* of ``lm_studio.chat``, and gives the whole call enough time."""
    return f"targets:\n  pixel_llm.generate: {{deadline: 5m}}\n  lm_studio.chat: {{{settings}}}"
