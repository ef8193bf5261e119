"""What the description is written from: one picture's measurements as NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.bool_]
Labels: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """
    Measurements of one picture. Immutable by agreement, safe to share between threads.

    Attributes:
        size: Width and height of the original, in pixels.
        lab: H×W×3, CIE L*a*b* of the scaled picture, whose pixels are averages of the original's.
        samples: H×W×3, single pixels of the original, one from the area of each pixel of the scaled picture:
            no colour in here is a mixture.
        labels: H×W, the number of the colour name of each pixel of *lab*; see :mod:`pixel_llm.encoder.colours`.
        sample_labels: H×W, the same for *samples*.
        strength: H×W, edge strength in ΔE*ab per pixel.
        slopes: 3×H×W, the structure tensor Jxx, Jyy, Jxy.
        patches: rows × columns × F, the patch features.
    """

    size: tuple[int, int]
    lab: FloatArray
    samples: FloatArray
    labels: Labels
    sample_labels: Labels
    strength: FloatArray
    slopes: FloatArray
    patches: FloatArray
