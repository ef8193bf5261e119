"""A model as :class:`ModelEncoder` wants it, whatever file or library it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from pixel_llm.encoder.preprocessing import Preprocessing


class Seen(NamedTuple):
    """What a model gives for n pictures: features ``[n, patches, F]``, and ``[n, D]`` to compare with words."""

    features: Tensor
    embeddings: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Backbone:
    """
    A model that is read, but not yet on its device.

    Attributes:
        module: Takes ``[n, 3, H, W]`` and gives :class:`Seen`. In float32, on the CPU.
        preprocessing: How it wants its pictures.
        grid: Rows and columns of patches.
        numbers_each: Numbers that a pass holds at once for each picture, by estimate.
        words: What an embedding ``[D]`` (float32, CPU) says, as a sentence; None if the model knows no words.
    """

    module: nn.Module
    preprocessing: Preprocessing
    grid: tuple[int, int]
    numbers_each: int
    words: Callable[[Tensor], str] | None = None


def numbers_of_a_pass(preprocessing: Preprocessing, tokens: int, width: int, hidden: int) -> int:
    """
    Estimate what a transformer holds at once for a picture: its pixels, and the largest moment of a block.

    That is the MLP, with its hidden layer before and after the activation, or attention with queries, keys, values
    and their mixture; beside either, the tokens and their normalised copy. Attention's own matrix is not counted:
    torch's fused attention never makes it whole.
    """
    pixels = 3 * preprocessing.height * preprocessing.width
    return pixels + tokens * (2 * width + max(2 * hidden, 5 * width))
