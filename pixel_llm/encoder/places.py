"""Where in the picture something lies, in words that hold for most of it."""

from __future__ import annotations

from functools import cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from pixel_llm.encoder.view import Mask

#: The picture in 4×4 equal fields, rows from the top; everything below is made up of them.
Fields: TypeAlias = npt.NDArray[np.float64]

#: An area is named only if this share of it is covered …
_COVERED: Final = 0.85
#: … and this share of what is described lies inside.
_INSIDE: Final = 0.9
#: A side is named if this share lies on it, or, with "mostly", this.
_ENTIRELY, _MOSTLY = 0.95, 0.75

_ALL, _FIRST, _SECOND, _MIDDLE = slice(0, 4), slice(0, 2), slice(2, 4), slice(1, 3)

_AREAS: Final = {
    "in the left half": (_ALL, _FIRST),
    "in the right half": (_ALL, _SECOND),
    "in the upper half": (_FIRST, _ALL),
    "in the lower half": (_SECOND, _ALL),
    "in the upper left quarter": (_FIRST, _FIRST),
    "in the upper right quarter": (_FIRST, _SECOND),
    "in the lower left quarter": (_SECOND, _FIRST),
    "in the lower right quarter": (_SECOND, _SECOND),
}


def locate(mask: Mask) -> str:
    """
    Say where the true cells of *mask* (rows × columns, at least one true) lie.

    "in the left half" means that they fill it (85 %) and little else (10 %); "in the upper left" that
    95 % of them lie in the upper and 95 % in the left half, "mostly in the upper left" that 75 % do; "in the
    centre" the same for the middle half of both axes; "around the edges" that they fill what is outside of
    it. What fits nothing is "spread out", and from 60 % of the picture on "over most of the picture".
    """
    covered = np.count_nonzero(mask) / mask.size
    if covered >= 0.98:
        return "over the whole picture"
    shares = _overlaps(mask.shape[0]) @ mask.astype(np.float64) @ _overlaps(mask.shape[1]).T
    shares /= shares.sum()
    for words, area in _AREAS.items():
        if _fills(float(shares[area].sum()), covered, shares[area].size / 16):
            return words
    if _fills(1 - float(shares[_MIDDLE, _MIDDLE].sum()), covered, 12 / 16):
        return "around the edges"
    if covered >= 0.6:
        return "over most of the picture"
    entirely, mostly = _side(shares, _ENTIRELY), _side(shares, _MOSTLY)
    if entirely == mostly:
        return entirely or "spread out"
    return f"mostly {mostly}"


def _fills(inside: float, covered: float, size: float) -> bool:
    return inside >= _INSIDE and inside * covered >= _COVERED * size


def _side(shares: Fields, needed: float) -> str:
    """Name the side that *needed* of the shares lie on; empty if there is none."""
    left, upper = float(shares[:, _FIRST].sum()), float(shares[_FIRST].sum())
    across = "left" if left >= needed else "right" if 1 - left >= needed else ""
    down = "upper" if upper >= needed else "lower" if 1 - upper >= needed else ""
    middle_across = shares[:, _MIDDLE].sum() >= needed
    middle_down = shares[_MIDDLE].sum() >= needed
    if across and down:
        return f"in the {down} {across}"
    if down:
        return f"in the {down} middle" if middle_across else f"in the {down} part"
    if across:
        return f"in the middle {across}" if middle_down else f"in the {across} part"
    if middle_across and middle_down:
        return "in the centre"
    if middle_down:
        return "at middle height"
    return "along the vertical middle" if middle_across else ""


@cache
def _overlaps(cells: int) -> npt.NDArray[np.float64]:
    """``[4, cells]``: how much of each of *cells* equal cells lies in each quarter of the axis, 0 to 1."""
    starts = np.arange(4)[:, None] * cells / 4
    left = np.arange(cells)
    return np.asarray(np.clip(np.minimum(starts + cells / 4, left + 1) - np.maximum(starts, left), 0, 1))
