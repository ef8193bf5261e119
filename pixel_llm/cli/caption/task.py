"""One image that is to be captioned: what makes two captions of it the same one."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pixel_llm.cli.caption.images import STANDARD_INPUT


@dataclass(frozen=True, slots=True)
class Task:
    """
    An image, and what is asked about it. Immutable.

    Attributes:
        image: Its name, as it was typed or found.
        prompt: The question.
        model: The model that is asked.
        size: How many bytes the file had when the run began; None if it could not be looked at.
        modified: When it was changed last, in seconds since 1970; None likewise.
    """

    image: str
    prompt: str
    model: str
    size: int | None = None
    modified: float | None = None

    @classmethod
    def of(cls, image: str, prompt: str, model: str) -> Task:
        """The task for the file that *image* is now."""
        if image == STANDARD_INPUT:
            return cls(image, prompt, model)
        try:
            status = os.stat(image)  # noqa: PTH116 - Path takes longer, and there may be many
        except (OSError, ValueError):
            return cls(image, prompt, model)
        return cls(image, prompt, model, status.st_size, status.st_mtime)
