"""From pictures to the square, normalised pixels that a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pixel_llm.encoder.picture import Picture

#: Mean and standard deviation of each channel, 0..1, by the name that `encoder.normalize` has.
NORMALIZATIONS: Final = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """
    How a model wants its pictures. Immutable.

    Attributes:
        height: Of the model's picture, in pixels.
        width: The same.
        shortest: If given, the shortest side is scaled to this and the middle cut out; else the whole picture is
            pressed into height × width.
        bicubic: Scaled bicubically rather than bilinearly; both antialiased.
        mean: Of each channel, 0..1.
        deviation: The same.
    """

    height: int
    width: int
    shortest: int | None = None
    bicubic: bool = False
    mean: tuple[float, ...] = NORMALIZATIONS["imagenet"][0]
    deviation: tuple[float, ...] = NORMALIZATIONS["imagenet"][1]

    def apply(self, pictures: Sequence[Picture]) -> Tensor:
        """float32 ``[n, 3, height, width]`` on the CPU."""
        scaled = torch.stack([self._scaled(picture) for picture in pictures]).float()
        mean, deviation = (torch.tensor(values).view(3, 1, 1) * 255 for values in (self.mean, self.deviation))
        return scaled.sub_(mean).div_(deviation)

    def _scaled(self, picture: Picture) -> Tensor:
        pixels = torch.from_numpy(picture.pixels.copy()).permute(2, 0, 1)  # torch warns of read-only arrays
        size = self._size_of(picture)
        if size != (picture.height, picture.width):
            mode = "bicubic" if self.bicubic else "bilinear"
            pixels = interpolate(pixels[None], size=size, mode=mode, antialias=True)[0]
        top, left = (size[0] - self.height) // 2, (size[1] - self.width) // 2
        if top >= 0 and left >= 0:
            return pixels[:, top : top + self.height, left : left + self.width]
        framed = pixels.new_zeros((3, self.height, self.width))  # what is cut out may be larger than what is there
        framed[:, max(0, -top) : max(0, -top) + size[0], max(0, -left) : max(0, -left) + size[1]] = pixels[
            :, max(0, top) : max(0, top) + self.height, max(0, left) : max(0, left) + self.width
        ]
        return framed

    def _size_of(self, picture: Picture) -> tuple[int, int]:
        if self.shortest is None:
            return self.height, self.width
        scale = self.shortest / min(picture.height, picture.width)
        # Rounded down, as torchvision and transformers do it.
        return max(self.shortest, int(picture.height * scale)), max(self.shortest, int(picture.width * scale))
