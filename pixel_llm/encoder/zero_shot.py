"""Which of the given labels fits a picture: a comparison by CLIP or SigLIP, and its result in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pixel_llm.encoder.description import MAX_CHARACTERS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labels:
    """
    Labels, and what a model's text half made of them. Immutable.

    CLIP is trained to tell which of several texts belongs to a picture, so its scores are shares that sum to 1
    over the labels (softmax; A. Radford et al., 2021): they say which label fits best, never that it fits. SigLIP
    is trained to tell of each text whether it belongs (sigmoid; X. Zhai et al., 2023), so it can also deny all.

    Attributes:
        labels: As the policy has them.
        vectors: ``[labels, D]``, float32 on the CPU, of length 1.
        scale: What similarities, -1 to 1, are multiplied with.
        bias: What is added then; None for CLIP, which has none.
        at_most: How many labels are told.
        at_least: The probability from which on a label is told.
    """

    labels: tuple[str, ...]
    vectors: Tensor
    scale: float
    bias: float | None
    at_most: int
    at_least: float

    def scores(self, embedding: Tensor) -> list[float]:
        """The probability of each label for ``[D]``, the picture's embedding."""
        similarities = self.vectors @ torch.nn.functional.normalize(embedding, dim=0)
        if self.bias is None:
            return [float(score) for score in torch.softmax(similarities * self.scale, dim=0)]
        return [float(score) for score in torch.sigmoid(similarities * self.scale + self.bias)]

    def words(self, embedding: Tensor) -> str:
        """What the scores say, as a sentence that says where they come from."""
        return label_words(self.labels, self.scores(embedding), self.at_most, self.at_least, shared=self.bias is None)


def label_words(labels: Sequence[str], scores: Sequence[float], at_most: int, at_least: float, *, shared: bool) -> str:
    """
    Tell the likeliest of *labels*, in half of a description at most.

    *shared* scores sum to 1 over the labels.
    """
    kind = "sharing 100 % among them" if shared else "each judged by itself"
    intro = f"Automatic comparison with {len(labels)} given labels, {kind}: "
    likeliest = sorted(range(len(labels)), key=lambda place: -scores[place])[:at_most]
    told = [f"{labels[place]} {_percent(scores[place])}" for place in likeliest if scores[place] >= at_least]
    while told and len(intro) + len(", ".join(told)) >= MAX_CHARACTERS // 2:
        told.pop()
    return f"{intro}{', '.join(told) or f'none reaches {_percent(at_least)}'}."


def _percent(share: float) -> str:
    return "under 1 %" if share < 0.01 else f"{int(share * 100 + 0.5)} %"
