"""The patch encoder: measures colour, light, edges and texture patch by patch. Needs no weights."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pixel_llm.encoder.batches import Limits, encode_in_batches
from pixel_llm.encoder.colours import colour_labels, colour_table
from pixel_llm.encoder.description import describe
from pixel_llm.encoder.devices import choose_device
from pixel_llm.encoder.features import FEATURES, Maps, measure_patches, measure_pixels, srgb_to_lab
from pixel_llm.encoder.picture import Picture
from pixel_llm.encoder.protocol import Encoding
from pixel_llm.encoder.torch_errors import translated
from pixel_llm.encoder.view import View
from pixel_llm.encoder.workers import map_in_workers
from pixel_llm.errors import ValidationError

#: Bytes that measuring takes for each pixel of the scaled picture, about: some 40 numbers of 4 bytes.
_BYTES_A_PIXEL: Final = 160


class PatchEncoder:
    """
    Turns a picture into patch features and a description that is true of it.

    A picture is scaled down until its longest side is *max_side*, never up, and divided into about square
    patches of about *patch_size* pixels, at least one. Deterministic: equal pictures give equal encodings
    on the same device. Safe to share between threads; the work is done in as many threads as torch would use,
    a picture in each.

    The F = 12 features are listed, with unit and range, in :data:`pixel_llm.encoder.features.FEATURES`.

    Args:
        device: ``auto`` takes CUDA, else Apple's MPS, else the CPU.
        patch_size: Side of a patch in pixels of the scaled picture, at least 1.
        max_side: Longest side of the scaled picture in pixels, at least 1.
        limits: How much it takes on at once, and what it does when memory runs out.

    Raises:
        ValidationError: ERR_VAL_INVALID_RANGE for a size below 1.
    """

    name = "patch"

    def __init__(
        self, device: str = "auto", patch_size: int = 16, max_side: int = 224, *, limits: Limits | None = None
    ) -> None:
        for field, value in (("patch_size", patch_size), ("max_side", max_side)):
            if value < 1:
                raise ValidationError(f"{field} must be at least 1 (got {value})")
        self._wanted = device
        self._patch_size = patch_size
        self._max_side = max_side
        self._limits = limits or Limits()
        self._device: torch.device | None = None
        self._lock = threading.Lock()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """What the last axis of ``Encoding.features`` holds, in order."""
        return tuple(FEATURES)

    @property
    def identity(self) -> str:
        """The sizes; devices differ in the last bits only."""
        return f"patch:{self._patch_size}:{self._max_side}"

    def load(self) -> None:
        """
        Choose the device, try it out and make the table of colour names (0.1 s). A second call does nothing.

        Raises:
            EncoderError: ERR_ENC_LOAD_FAILED for a device that is unknown, not there or does not work.
        """
        self._loaded()

    def encode(self, picture: Picture) -> Encoding:
        """
        Measure and describe *picture*. Loads first if need be.

        Raises:
            EncoderError: ERR_ENC_OUT_OF_MEMORY, or ERR_ENC_FORWARD_FAILED for whatever else torch reports.
        """
        return self.encode_batch([picture])[0]

    def encode_batch(self, pictures: Sequence[Picture]) -> list[Encoding]:
        """
        Measure and describe *pictures*; the results are bit for bit those of :meth:`encode`.

        Raises:
            EncoderError: As :meth:`encode`.
        """
        return encode_in_batches(pictures, self._bytes_of, self._pass, self._loaded(), self._limits)

    def _loaded(self) -> torch.device:
        with self._lock:
            if self._device is None:
                self._device = choose_device(self._wanted)
                colour_table()  # made here, so that no first picture waits for it
            return self._device

    def _bytes_of(self, picture: Picture) -> int:
        """A copy of the original, and what is measured."""
        scale = min(1.0, self._max_side / max(picture.width, picture.height))
        return picture.pixels.nbytes + int(picture.width * picture.height * scale**2) * _BYTES_A_PIXEL

    def _pass(self, pictures: Sequence[Picture], device: torch.device) -> list[Encoding]:
        return map_in_workers(partial(self._measure, device), pictures)

    def _measure(self, device: torch.device, picture: Picture) -> Encoding:
        with translated(picture.source), torch.inference_mode():
            small = _shrink(picture, self._max_side).to(device)
            rows, columns = (max(1, round(side / self._patch_size)) for side in small.shape[1:])
            maps = measure_pixels(small)
            samples = maps.lab
            if small.shape[1:] != picture.pixels.shape[:2]:  # else the scaled picture is the original
                samples, _ = srgb_to_lab(_sample(picture, *maps.strength.shape).to(device))
            features = measure_patches(maps, samples, rows, columns).cpu()
            description = describe(_view(picture, maps, samples, features.view(rows, columns, -1)))
        return Encoding(features[None], description, (rows, columns))


def _shrink(picture: Picture, max_side: int) -> Tensor:
    """uint8 ``[3, H, W]`` on the CPU, antialiased; shrinking there sends the device little."""
    pixels = torch.from_numpy(picture.pixels.copy()).permute(2, 0, 1)  # torch warns of read-only arrays
    scale = max_side / max(picture.width, picture.height)
    if scale >= 1:
        return pixels
    size = [max(1, round(picture.height * scale)), max(1, round(picture.width * scale))]
    return interpolate(pixels[None], size=size, mode="bilinear", antialias=True)[0]


def _sample(picture: Picture, rows: int, columns: int) -> Tensor:
    """
    Single pixels of the original, one from each of rows × columns cells: uint8 ``[3, rows, columns]``.

    Each is drawn from its cell by chance, the same at every call: even steps would see only one colour of
    stripes as fine as the steps.
    """
    chance = np.random.default_rng(0).random((2, rows, columns))
    down = ((np.arange(rows)[:, None] + chance[0]) * (picture.height / rows)).astype(np.intp)
    across = ((np.arange(columns) + chance[1]) * (picture.width / columns)).astype(np.intp)
    pixels = picture.pixels[np.minimum(down, picture.height - 1), np.minimum(across, picture.width - 1)]
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _view(picture: Picture, maps: Maps, samples: Tensor, patches: Tensor) -> View:
    lab = maps.lab.permute(1, 2, 0).cpu().numpy()
    labels = colour_labels(lab)
    kept, kept_labels = lab, labels
    if samples is not maps.lab:
        kept = samples.permute(1, 2, 0).cpu().numpy()
        kept_labels = colour_labels(kept)
    return View(
        size=(picture.width, picture.height),
        lab=lab,
        samples=kept,
        labels=labels,
        sample_labels=kept_labels,
        strength=maps.strength.cpu().numpy(),
        slopes=maps.tensor.cpu().numpy(),
        patches=patches.numpy(),
    )
