"""The patch encoder: measures colour, light, edges and texture patch by patch. Needs no weights."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pixel_llm.encoder.colours import colour_table
from pixel_llm.encoder.description import describe
from pixel_llm.encoder.features import FEATURES, Maps, measure_patches, measure_pixels, srgb_to_lab
from pixel_llm.encoder.picture import Picture
from pixel_llm.encoder.protocol import Encoding
from pixel_llm.encoder.view import View
from pixel_llm.errors import EncoderError, ErrorCode, ValidationError

if hasattr(os, "register_at_fork"):
    # A child has none of the threads that torch's pool counts on: its first parallel loop would wait for them for ever.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

DEVICES: Final = ("auto", "cpu", "cuda", "mps")


class PatchEncoder:
    """
    Turns a picture into patch features and a description that is true of it.

    A picture is scaled down until its longest side is *max_side*, never up, and divided into about square
    patches of about *patch_size* pixels, at least one. Deterministic: equal pictures give equal encodings
    on the same device. Safe to share between threads.

    The F = 12 features are listed, with unit and range, in :data:`pixel_llm.encoder.features.FEATURES`.

    Args:
        device: ``auto`` takes CUDA, else Apple's MPS, else the CPU.
        patch_size: Side of a patch in pixels of the scaled picture, at least 1.
        max_side: Longest side of the scaled picture in pixels, at least 1.

    Raises:
        ValidationError: ERR_VAL_INVALID_RANGE for a size below 1.
    """

    name = "patch"

    def __init__(self, device: str = "auto", patch_size: int = 16, max_side: int = 224) -> None:
        for field, value in (("patch_size", patch_size), ("max_side", max_side)):
            if value < 1:
                raise ValidationError(f"{field} must be at least 1 (got {value})")
        self._wanted = device
        self._patch_size = patch_size
        self._max_side = max_side
        self._device: torch.device | None = None
        self._lock = threading.Lock()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """What the last axis of ``Encoding.features`` holds, in order."""
        return tuple(FEATURES)

    def load(self) -> None:
        """
        Choose the device, try it out and make the table of colour names (0.1 s). A second call does nothing.

        Raises:
            EncoderError: ERR_ENC_LOAD_FAILED for a device that is unknown, not there or does not work.
        """
        with self._lock:
            if self._device is None:
                self._device = _choose_device(self._wanted)
                colour_table()  # made here, so that no first picture waits for it

    def encode(self, picture: Picture) -> Encoding:
        """
        Measure and describe *picture*. Loads first if need be.

        Raises:
            EncoderError: ERR_ENC_OUT_OF_MEMORY, or ERR_ENC_FORWARD_FAILED for whatever else torch reports.
        """
        self.load()
        with _translated(picture.source), torch.inference_mode():
            small = _shrink(picture, self._max_side).to(self._device)
            rows, columns = (max(1, round(side / self._patch_size)) for side in small.shape[1:])
            maps = measure_pixels(small.float() / 255)
            samples, _ = srgb_to_lab(_sample(picture, *maps.strength.shape).to(self._device))
            features = measure_patches(maps, samples, rows, columns).cpu()
            view = _view(picture, maps, samples, features.view(rows, columns, -1))
        description = describe(view)
        return Encoding(features[None], description, (rows, columns))


def _choose_device(wanted: str) -> torch.device:
    if wanted not in DEVICES:
        raise EncoderError(
            f"encoder.device must be one of {', '.join(DEVICES)} (got {wanted!r})",
            error_code=ErrorCode.ERR_ENC_LOAD_FAILED,
        )
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    chosen = next(name for name in there if there[name]) if wanted == "auto" else wanted
    if not there[chosen]:
        raise EncoderError(
            f"encoder.device {chosen} is not available here: use auto or cpu", error_code=ErrorCode.ERR_ENC_LOAD_FAILED
        )
    device = torch.device(chosen)
    try:
        torch.ones(1, device=device).sum().item()
    except RuntimeError as exc:
        raise EncoderError(
            f"encoder.device {chosen} does not work: {_first_line(exc)}", error_code=ErrorCode.ERR_ENC_LOAD_FAILED
        ) from exc
    return device


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
    Single pixels of the original, one from each of rows × columns cells: ``[3, rows, columns]`` in 0..1.

    Each is drawn from its cell by chance, the same at every call: even steps would see only one colour of
    stripes as fine as the steps. Where nothing was scaled, these are all pixels.
    """
    chance = np.random.default_rng(0).random((2, rows, columns))
    down = ((np.arange(rows)[:, None] + chance[0]) * (picture.height / rows)).astype(np.intp)
    across = ((np.arange(columns) + chance[1]) * (picture.width / columns)).astype(np.intp)
    pixels = picture.pixels[np.minimum(down, picture.height - 1), np.minimum(across, picture.width - 1)]
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def _view(picture: Picture, maps: Maps, samples: Tensor, patches: Tensor) -> View:
    return View(
        size=(picture.width, picture.height),
        lab=maps.lab.permute(1, 2, 0).cpu().numpy(),
        samples=samples.permute(1, 2, 0).cpu().numpy(),
        strength=maps.strength.cpu().numpy(),
        slopes=maps.tensor.cpu().numpy(),
        patches=patches.numpy(),
    )


@contextmanager
def _translated(source: str) -> Iterator[None]:
    try:
        yield
    except (MemoryError, torch.cuda.OutOfMemoryError) as exc:
        raise _out_of_memory(source) from exc
    except RuntimeError as exc:
        if "can't allocate memory" in str(exc):  # how torch says so on the CPU
            raise _out_of_memory(source) from exc
        raise EncoderError(f"{source}: torch failed: {_first_line(exc)}") from exc


def _out_of_memory(source: str) -> EncoderError:
    return EncoderError(f"{source}: not enough memory to encode it", error_code=ErrorCode.ERR_ENC_OUT_OF_MEMORY)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__
