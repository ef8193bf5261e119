"""Plain names for colours, and how much of a picture each makes up."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from pixel_llm.encoder.features import srgb_to_lab
from pixel_llm.encoder.places import locate
from pixel_llm.encoder.view import FloatArray, Labels, View

#: Each name stands for the colours nearest (ΔE*ab) to one of its samples, sRGB in hex. Most samples are
#: colours of CSS Color Module Level 4; the dark and pale ones between them are added by eye.
COLOURS: Final[dict[str, str]] = {
    "black": "000000 141414",
    "dark grey": "404040 585858",
    "grey": "808080 999999",
    "light grey": "c0c0c0 d8d8d8",
    "white": "ffffff f8f8f8",
    "red": "ff0000 dc143c e03020 cc2222",
    "dark red": "8b0000 800000 5c1414",
    "orange": "ffa500 ff8c00 ff7f32 e0701a f4a460 e2603c",
    "brown": "8b4513 a0522d 654321 5a3a28 3c2418 96704c 7a5c48",
    "beige": "f5f5dc f5deb3 d2b48c e8c8a8 c8ad90 deb887",
    "yellow": "ffff00 ffd700 f0e060 e6c828 fff68f",
    "olive": "808000 6b7a2a 556b2f 9b9b4a 4a4a1e",
    "green": "008000 00ff00 32cd32 3cb371 6ab04c 228b22",
    "light green": "90ee90 c0f0c0 98d890 adff2f",
    "dark green": "006400 0b3d0b 2f4f2f 1c3520",
    "teal": "008080 2f6f6f 20a090 004d4d",
    "cyan": "00ffff 40e0d0 00ced1",
    "light blue": "add8e6 87ceeb 87cefa b0c8e8 c8dcf0",
    "blue": "0000ff 4169e1 1e90ff 4682b4 2060c0",
    "navy": "000080 191970 102040 1c2c58",
    "purple": "800080 4b0082 8a2be2 9370db 583a78 3a1a50",
    "pink": "ffc0cb ff69b4 f4a0b0 e8b8c8 c87888",
    "magenta": "ff00ff c71585 d020c0",
}

_NAMES: Final = tuple(COLOURS)
#: Below this chroma (C*ab) a pixel looks grey.
_GREY = 5.0
#: Colours below this share, in percent, are not mentioned.
_MENTIONED = 5
#: The table of names covers all of sRGB: L* 0..100, a* -90..100, b* -110..96.
_LOWEST: Final = (0, -90, -110)
_SIZE: Final = (51, 96, 104)
_STEP: Final = 2


def colour_labels(lab: FloatArray) -> Labels:
    """
    Name every colour of ``[…, 3]`` Lab by the number of its name in COLOURS: the nearest sample's, CIE76 ΔE*ab.

    Colours are first rounded to even numbers in L*, a* and b*, which moves them less than the eye can see
    (1.7 ΔE*ab at most), so that a table answers.
    """
    numbers = np.zeros(lab.shape[:-1], np.int32)
    for axis, (low, size) in enumerate(zip(_LOWEST, _SIZE, strict=True)):
        place = np.rint((lab[..., axis] - np.float32(low)) / np.float32(_STEP))
        numbers *= size
        numbers += np.clip(place, 0, size - 1).astype(np.int32)
    return np.asarray(colour_table().ravel().take(numbers))


@cache
def colour_table() -> npt.NDArray[np.uint8]:
    """The label of every colour on a grid in Lab. Takes about 0.1 s the first time."""
    codes = [(number, code) for number, name in enumerate(_NAMES) for code in COLOURS[name].split()]
    rgb = torch.tensor([list(bytes.fromhex(code)) for _, code in codes], dtype=torch.uint8)
    samples, _ = srgb_to_lab(rgb.T)
    owners = torch.tensor([number for number, _ in codes], dtype=torch.uint8)
    axes = (low + _STEP * torch.arange(size) for low, size in zip(_LOWEST, _SIZE, strict=True))
    grid = torch.cartesian_prod(*axes).float()
    squares = (samples**2).sum(0)  # |x - s|² without |x|², which is the same for all samples
    nearest = [torch.addmm(squares, part, samples, alpha=-2).argmin(1) for part in torch.split(grid, 8192)]
    return np.asarray(owners[torch.cat(nearest)].view(_SIZE).numpy())


def colour_name(label: int) -> str:
    """The name that belongs to a label of :func:`colour_labels`."""
    return _NAMES[label]


def whole_percents(counts: npt.NDArray[np.intp]) -> list[int]:
    """Share of each count in whole percents that sum to exactly 100 (largest remainder)."""
    exact = counts * 100 / counts.sum()
    percents = np.floor(exact).astype(int)
    missing = 100 - int(percents.sum())
    percents[np.argsort(percents - exact, kind="stable")[:missing]] += 1
    return [int(percent) for percent in percents]


def describe_colours(view: View) -> str:
    """Name up to five colours that make up 5 % or more of the picture, with share and place."""
    labels = view.sample_labels
    counts = np.bincount(labels.ravel(), minlength=len(_NAMES))
    percents = whole_percents(counts)
    order = sorted(range(len(_NAMES)), key=lambda label: -counts[label])
    if counts[order[0]] == labels.size:
        return f"All of it is {_NAMES[order[0]]}."
    parts = [
        f"{_NAMES[label]} {percents[label]} % ({locate(labels == label)})"
        for label in order[:5]
        if percents[label] >= _MENTIONED
    ]
    return f"Main colours: {', '.join(parts)}." if parts else "No colour makes up much of it."


def describe_palette(view: View) -> str:
    """Say "in colour" or "in shades of grey", or nothing where only traces of colour are there."""
    chroma = view.samples[..., 1] ** 2 + view.samples[..., 2] ** 2
    coloured = float((chroma >= (2 * _GREY) ** 2).mean())
    if coloured >= 0.01:
        return "in colour"
    return "in shades of grey" if float((chroma < _GREY**2).mean()) >= 0.99 else ""
