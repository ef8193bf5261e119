"""The `vit` encoder's model: a checkpoint, and how its pictures are prepared."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from pixel_llm.encoder.backbone import Backbone, Seen, numbers_of_a_pass
from pixel_llm.encoder.checkpoint import read_vit
from pixel_llm.encoder.preprocessing import NORMALIZATIONS, Preprocessing
from pixel_llm.encoder.vit import ViT


class _Patches(nn.Module):
    """The ViT's tokens for patches, without that for the whole picture."""

    def __init__(self, vit: ViT) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, pixels: Tensor) -> Seen:
        return Seen(self.vit(pixels)[:, 1:])


def vit_backbone(path: Path, heads: int | None = None, normalize: str = "imagenet") -> Backbone:
    """
    Read the ViT at *path*; see :func:`pixel_llm.encoder.checkpoint.read_vit`.

    The whole picture is pressed into the square that the model was trained on, so that nothing is cut off.

    Args:
        path: The checkpoint.
        heads: Heads of its attention, by default width / 64.
        normalize: ``imagenet`` for means and deviations of ImageNet, ``half`` for 0.5.

    Raises:
        EncoderError: ERR_ENC_LOAD_FAILED, naming the file and what is wrong with it.
    """
    vit = read_vit(path, heads)
    mean, deviation = NORMALIZATIONS[normalize]
    shape = vit.shape
    preprocessing = Preprocessing(height=shape.pixels, width=shape.pixels, bicubic=True, mean=mean, deviation=deviation)
    return Backbone(
        module=_Patches(vit),
        preprocessing=preprocessing,
        grid=(shape.side, shape.side),
        numbers_each=numbers_of_a_pass(preprocessing, shape.tokens, shape.width, shape.hidden),
    )
