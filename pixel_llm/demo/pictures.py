"""Pictures drawn with NumPy, so that the demonstration needs no files. Each is H×W×3, uint8, RGB."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

_HEIGHT, _WIDTH = 240, 320


def _canvas(colour: tuple[int, int, int]) -> Pixels:
    return np.full((_HEIGHT, _WIDTH, 3), colour, dtype=np.uint8)


def sunset() -> Pixels:
    """An orange disc over a dark sea."""
    pixels = _canvas((250, 214, 165))
    rows, columns = np.mgrid[:_HEIGHT, :_WIDTH]
    pixels[(rows - 110) ** 2 + (columns - 160) ** 2 < 55**2] = (240, 110, 30)
    pixels[150:] = (20, 40, 90)
    return pixels


def flag() -> Pixels:
    """Three upright stripes: blue, white, red."""
    pixels = _canvas((255, 255, 255))
    pixels[:, : _WIDTH // 3] = (20, 50, 160)
    pixels[:, 2 * _WIDTH // 3 :] = (210, 30, 40)
    return pixels


def meadow() -> Pixels:
    """A green field below a blue sky, a red house to the left."""
    pixels = _canvas((130, 190, 240))
    pixels[140:] = (60, 150, 60)
    pixels[100:170, 40:110] = (190, 40, 40)
    return pixels


PICTURES = {"sunset": sunset, "flag": flag, "meadow": meadow}
