"""What is measured in a picture, pixel by pixel and patch by patch. Pure torch, deterministic, no weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import pad

#: The features of a patch in their order, each the mean over the patch unless it says otherwise.
FEATURES: Final[dict[str, str]] = {
    "lightness": "CIE L*, 0 (black) to 100 (white)",
    "green_red": "CIE a*, about -86 (green) to 98 (magenta)",
    "blue_yellow": "CIE b*, about -108 (blue) to 94 (yellow)",
    "luminance": "relative luminance Y of IEC 61966-2-1, linear light, 0 to 1",
    "contrast": "standard deviation of L* within the patch, 0 to 50",
    "colour_contrast": "root of the summed variances of a* and b* within the patch, 0 to about 140",
    "edge_strength": "length of the Lab gradient, ΔE*ab per pixel (Sobel / 8), 0 to about 130",
    "edge_density": "share of pixels whose edge strength is at least EDGE, 0 to 1",
    "line_cos": "cos 2θ · coherence, -1 to 1: 1 for horizontal lines, -1 for vertical ones",
    "line_sin": "sin 2θ · coherence, -1 to 1: 1 for falling diagonals (\\), -1 for rising ones (/)",
    "fine_detail": "root mean square of L* minus its mean over 3×3 pixels, in L*, 0 to about 50",
    "grain": "root mean square ΔE*ab between single pixels of the original and the scaled picture, 0 to about 130",
}

#: From this edge strength on, in ΔE*ab per pixel, a pixel lies on an edge; about 2.3 ΔE*ab is just noticeable.
EDGE: Final = 5.0

#: IEC 61966-2-1 (sRGB), linear RGB to CIE XYZ, D65; divided by the white point (0.95047, 1, 1.08883).
_RGB_TO_XYZ: Final = (
    (0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883),
)


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """
    What is measured at every pixel of a picture of H×W. All float32, on one device.

    Attributes:
        lab: ``[3, H, W]``, CIE L*a*b* (D65).
        luminance: ``[H, W]``, relative luminance, 0 to 1.
        strength: ``[H, W]``, length of the Lab gradient in ΔE*ab per pixel.
        tensor: ``[3, H, W]``, the structure tensor's Jxx, Jyy, Jxy, summed over L*, a*, b*.
        detail: ``[H, W]``, L* minus its mean over 3×3 pixels.
    """

    lab: Tensor
    luminance: Tensor
    strength: Tensor
    tensor: Tensor
    detail: Tensor


def srgb_to_lab(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """
    Convert sRGB, uint8 ``[3, …]``, to CIE L*a*b* ``[3, …]`` and relative luminance ``[…]``, both float32.

    Sources: IEC 61966-2-1 for sRGB to XYZ; CIE 15:2004, section 8.2.1, for XYZ to L*a*b*, white D65, 2°.
    """
    linear = _linear_light(rgb.device).index_select(0, rgb.flatten().int())
    xyz = linear.new_tensor(_RGB_TO_XYZ) @ linear.view(3, -1)
    cube_root = xyz.clamp(min=1e-6).log2_().mul_(1 / 3).exp2_()  # in half the time of a power
    fx, fy, fz = torch.where(xyz > 216 / 24389, cube_root, xyz * (841 / 108) + 4 / 29)
    lab = torch.stack((116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)))
    return lab.view(rgb.shape), xyz[1].view(rgb.shape[1:])


@lru_cache(maxsize=8)
def _linear_light(device: torch.device) -> Tensor:
    """The linear light, 0..1, of each of the 256 values that a channel can have."""
    encoded = torch.arange(256, device=device) / 255
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def measure_pixels(rgb: Tensor) -> Maps:
    """
    Measure every pixel of sRGB, uint8 ``[3, H, W]``.

    The gradient is Sobel's with replicated borders, divided by 8 so that it is a slope per pixel. The
    structure tensor sums the channels: S. Di Zenzo, "A note on the gradient of a multi-image", 1986.
    """
    lab, luminance = srgb_to_lab(rgb)
    framed = pad(lab[None], (1, 1, 1, 1), mode="replicate")[0]
    up, here, down = framed[:, :-2], framed[:, 1:-1], framed[:, 2:]
    columns = (up + 2 * here + down) / 8
    across = columns[..., 2:] - columns[..., :-2]
    vertical = (down - up) / 8
    along = vertical[..., :-2] + 2 * vertical[..., 1:-1] + vertical[..., 2:]
    tensor = torch.stack(((across**2).sum(0), (along**2).sum(0), (across * along).sum(0)))
    rows = (up + here + down)[0] / 9
    detail = lab[0] - (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:])
    return Maps(lab, luminance, (tensor[0] + tensor[1]).sqrt(), tensor, detail)


def measure_patches(maps: Maps, samples: Tensor, rows: int, columns: int) -> Tensor:
    """
    Average over a grid of patches: float32 ``[rows * columns, len(FEATURES)]``.

    *samples* is the Lab, ``[3, H, W]``, of one pixel of the original for each pixel that *maps* measure.
    """
    lab, tensor = maps.lab, maps.tensor
    edges = (maps.strength >= EDGE).to(lab.dtype)
    layers = (*lab, maps.luminance, maps.strength, edges, *tensor, maps.detail**2, ((lab - samples) ** 2).sum(0))
    pooled = area_means(torch.stack(layers), rows, columns).flatten(1)
    lightness, a, b, luminance, strength, density, jxx, jyy, jxy, detail, grain = pooled
    spread = area_means((lab - _spread_out(pooled[:3], maps.lab, rows, columns)) ** 2, rows, columns).flatten(1)
    energy = (jxx + jyy).clamp(min=1e-6)
    return torch.stack(
        (
            lightness,
            a,
            b,
            luminance,
            spread[0].sqrt(),
            (spread[1] + spread[2]).sqrt(),
            strength,
            density,
            (jyy - jxx) / energy,
            -2 * jxy / energy,
            detail.sqrt(),
            grain.sqrt(),
        ),
        dim=1,
    )


def area_means(maps: Tensor, rows: int, columns: int) -> Tensor:
    """
    Average ``[C, H, W]`` over rows × columns equal rectangles: ``[C, rows, columns]``.

    Pixels that a border cuts count by their share, so any size divides into any grid.
    """
    down = _shares(maps.shape[1], rows, maps.dtype, maps.device)
    right = _shares(maps.shape[2], columns, maps.dtype, maps.device)
    return down @ maps @ right.T


@lru_cache(maxsize=64)
def _shares(pixels: int, cells: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``[cells, pixels]``: how much of each cell each pixel makes up; rows sum to 1."""
    starts = torch.arange(cells, dtype=dtype, device=device)[:, None] * pixels / cells
    left = torch.arange(pixels, dtype=dtype, device=device)[None, :]
    overlap = torch.minimum(starts + pixels / cells, left + 1) - torch.maximum(starts, left)
    return overlap.clamp(min=0) * cells / pixels


def _spread_out(means: Tensor, like: Tensor, rows: int, columns: int) -> Tensor:
    """``[C, N]`` back to ``[C, H, W]``: each pixel gets the mean of the patch that its centre lies in."""
    height, width = like.shape[1:]
    row = (torch.arange(height, device=like.device) * 2 + 1) * rows // (2 * height)
    column = (torch.arange(width, device=like.device) * 2 + 1) * columns // (2 * width)
    return means.view(-1, rows, columns).index_select(1, row).index_select(2, column)
