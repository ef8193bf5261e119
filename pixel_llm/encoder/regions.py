"""Connected areas of one colour: where they lie, how large they are and what shape they have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pixel_llm.encoder.colours import colour_name
from pixel_llm.encoder.places import locate
from pixel_llm.encoder.view import Labels, Mask, View

#: Regions below this share of the picture are not looked at, nor above that one: the colours say it already.
_SMALLEST, _LARGEST = 0.005, 0.9
#: An irregular region is mentioned from this share of the picture on.
_SMALLEST_IRREGULAR = 0.03
#: Equal regular shapes are mentioned if together they have this share.
_SMALLEST_REGULAR = 0.01
#: From this distance (ΔE*ab) to a single pixel of the original on, a pixel of the scaled picture is a mixture.
_MIXED = 12.0
#: An area is even if its colours lie within this distance of their mean, root mean square, ΔE*ab.
_EVEN = 12.0
_AT_MOST = 5


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """
    A connected, even area of one colour name.

    Attributes:
        colour: Its colour's name.
        share: Its share of the picture, 0 to 1.
        mask: Its pixels in the scaled picture.
        aspect: Width of such a pixel divided by its height, in pixels of the original.
    """

    colour: str
    share: float
    mask: Mask
    aspect: float


def find_regions(view: View) -> list[Region]:
    """
    Find the even areas of neighbouring pixels of the scaled picture with one colour name, the largest first.

    An area counts as even if most of its pixels are no mixtures and their colours are close together.
    """
    labels = view.labels
    rows, columns = labels.shape
    aspect = (view.size[0] / columns) / (view.size[1] / rows)
    runs = find_runs(labels)
    roots = connected_runs(runs, labels)
    counts = _sums(runs.sizes, roots)
    low, high = max(1.0, _SMALLEST * labels.size), _LARGEST * labels.size
    found = np.flatnonzero((counts >= low) & (counts <= high) & _even(view, runs, roots))
    members = roots[runs.numbers]
    regions = []
    for root in found:
        colour = colour_name(int(labels.ravel()[runs.firsts[root]]))
        regions.append(Region(colour, float(counts[root]) / labels.size, members == root, aspect))
    return sorted(regions, key=lambda region: -region.share)


def _even(view: View, runs: Runs, roots: npt.NDArray[np.intp]) -> Mask:
    """For each area of the *runs* whether half of it is pure and its pure colours lie close, at its root's place."""
    layers = [view.lab[..., axis].ravel() for axis in range(3)]
    pixels = all_pixels = _sums(runs.sizes, roots)
    if view.samples is not view.lab:
        apart = sum((layer - view.samples[..., axis].ravel()) ** 2 for axis, layer in enumerate(layers))
        pure = np.less_equal(apart, _MIXED**2).astype(np.float32)
        layers = [layer * pure for layer in layers]
        pixels = _sums(np.add.reduceat(pure, runs.firsts), roots)
    squares = np.zeros(runs.firsts.size)
    for layer in layers:
        sums, of_squares = (_sums(np.add.reduceat(values, runs.firsts), roots) for values in (layer, layer**2))
        squares += of_squares - sums**2 / np.maximum(pixels, 1)
    return np.asarray((pixels * 2 >= all_pixels) & (squares <= _EVEN**2 * pixels))


def _sums(of_runs: npt.NDArray[Any], roots: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """What each area has of something that each run has some of, at its root's place."""
    return np.asarray(np.bincount(roots, of_runs, roots.size), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """
    A picture cut into runs: cells beside each other in a row that have the same label.

    Attributes:
        firsts: The flat index of each run's first cell.
        sizes: How many cells each run has.
        numbers: Rows × columns, the number of each cell's run.
        begins: Rows × columns, whether a run begins at a cell.
    """

    firsts: npt.NDArray[np.intp]
    sizes: npt.NDArray[np.intp]
    numbers: npt.NDArray[np.int32]
    begins: Mask


def find_runs(labels: Labels) -> Runs:
    """Cut a picture into runs of equal *labels*."""
    begins = np.ones(labels.shape, np.bool_)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=begins[:, 1:])
    firsts = np.flatnonzero(begins)
    numbers = (np.cumsum(begins.ravel(), dtype=np.int32) - 1).reshape(labels.shape)
    return Runs(firsts, np.diff(firsts, append=labels.size), numbers, begins)


def connected_runs(runs: Runs, labels: Labels) -> npt.NDArray[np.intp]:
    """
    Give all *runs* of a 4-connected area of equal *labels* the same number: that of its first run, its root.

    Each round hooks the root of every area onto the smallest root among its neighbours and halves the paths until
    they are flat (Y. Shiloach and U. Vishkin, "An O(log n) parallel connectivity algorithm", 1982).
    """
    touches = labels[1:] == labels[:-1]
    # Two runs that touch touch first where one of them begins.
    touches &= runs.begins[1:] | runs.begins[:-1]
    cells = np.flatnonzero(touches)
    one, other = (runs.numbers.ravel().take(cells + shift) for shift in (0, labels.shape[1]))
    root = np.arange(runs.firsts.size)
    while True:
        low, high = np.minimum(root[one], root[other]), np.maximum(root[one], root[other])
        apart = low != high
        if not apart.any():
            return root
        one, other = one[apart], other[apart]
        np.minimum.at(root, high[apart], low[apart])
        while not np.array_equal(flat := root[root], root):
            root = flat


def shape_of(region: Region) -> str:
    """
    Name the shape of *region*; "irregular area" if it has none of those below.

    A rectangle fills its bounding box (90 %). An ellipse fills π/4 of it (70 to 86 %) and has the area that
    its second moments ask for, 4π·√det(covariance) (within 2.5 %; a rectangle at an angle has 95.5 % of it).
    """
    down, across = (np.flatnonzero(region.mask.any(axis=axis)) for axis in (1, 0))
    inside = region.mask[down[0] : down[-1] + 1, across[0] : across[-1] + 1].astype(np.float64)
    rows, columns = inside.shape
    width, height = columns * region.aspect, float(rows)
    area = float(inside.sum()) * region.aspect
    filled = area / (width * height)
    elongation = max(width, height) / min(width, height)
    if filled >= 0.9:
        return _rectangle(width, height, region)
    if 0.7 <= filled <= 0.86 and elongation < 3 and abs(area / _ellipse(inside, region.aspect) - 1) <= 0.025:
        return "round area" if elongation <= 1.2 else "oval area"
    return "irregular area"


def _ellipse(inside: npt.NDArray[np.float64], aspect: float) -> float:
    """Area of the ellipse that has the second moments of *inside*, rows × columns of 0 and 1."""
    share = inside / inside.sum()
    down, across = (np.arange(size) - (size - 1) / 2 for size in inside.shape)
    vertical, horizontal = share.sum(axis=1), share.sum(axis=0)
    middle_down, middle_across = float(vertical @ down), float(horizontal @ across)
    own = 1 / 12  # pixels are squares, not points
    rises = float(vertical @ (down - middle_down) ** 2) + own
    spreads = float(horizontal @ (across - middle_across) ** 2) + own
    together = float(down @ share @ across) - middle_down * middle_across
    return float(4 * np.pi * aspect * np.sqrt(rises * spreads - together**2))


def _rectangle(width: float, height: float, region: Region) -> str:
    if region.mask.any(axis=0).all() and height < width:
        return "full-width horizontal band"
    if region.mask.any(axis=1).all() and width < height:
        return "full-height vertical band"
    if max(width, height) <= 1.15 * min(width, height):
        return "square"
    return "wide rectangle" if width > height else "tall rectangle"


def describe_regions(view: View) -> str:
    """Describe up to five even areas, the largest first; equal shapes in one colour are counted together."""
    groups: dict[tuple[str, str, int], list[Region]] = {}
    for number, region in enumerate(find_regions(view)):
        shape = shape_of(region)
        if shape != "irregular area":
            groups.setdefault((region.colour, shape, 0), []).append(region)
        elif region.share >= _SMALLEST_IRREGULAR:
            groups[region.colour, shape, number] = [region]
    worthy = (group for group in groups.items() if _share(group[1]) >= _SMALLEST_REGULAR)
    largest = sorted(worthy, key=lambda group: -_share(group[1]))[:_AT_MOST]
    parts = [_words(colour, shape, regions) for (colour, shape, _), regions in largest]
    return f"Even areas: {'; '.join(parts)}." if parts else ""


def _words(colour: str, shape: str, regions: list[Region]) -> str:
    percent = max(1, round(_share(regions) * 100))
    if len(regions) > 1:
        return f"{len(regions)} {colour} {shape}s ({percent} % together)"
    return f"{colour} {shape} {locate(regions[0].mask)} ({percent} %)"


def _share(regions: list[Region]) -> float:
    return sum(region.share for region in regions)
