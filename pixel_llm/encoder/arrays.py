"""NumPy arrays and torch tensors in, RGB pixels out. Knows torch only when the caller has already loaded it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from pixel_llm.encoder.picture import check_size
from pixel_llm.errors import ErrorCode, ValidationError

_CHANNELS = (1, 3, 4)
_LAYOUTS = "H×W, H×W×C or C×H×W with C of 1, 3 or 4, and a leading batch axis of 1 at most"


def is_tensor(source: object) -> bool:
    """True if *source* is a torch tensor. Loads no torch: without it there are no tensors."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def pixels_from_array(array: npt.NDArray[Any], source: str, *, channels_first: bool = False) -> npt.NDArray[np.uint8]:
    """
    Turn an array into H×W×3 uint8 RGB. The result shares no memory with *array*.

    Args:
        array: H×W, H×W×C or C×H×W with 1 (grey), 3 (RGB) or 4 (RGBA) channels; uint8, or float in 0..1.
            A leading batch axis of 1 is dropped.
        source: What to call the array in messages.
        channels_first: How to read an array that could be either, such as 3×5×3. NumPy's custom is
            channels last, torch's channels first.

    Raises:
        ValidationError: ERR_VAL_INVALID_TENSOR for a wrong shape, type or value, ERR_VAL_EMPTY_INPUT for no pixels.
        EncoderError: ERR_ENC_INVALID_INPUT for more than MAX_PIXELS pixels.
    """
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise _invalid(source, f"must be uint8, or float in 0..1 (got {array.dtype})")
    planes = _channels_last(array, source, channels_first)
    check_size(planes.shape[1], planes.shape[0], source)
    if planes.dtype != np.uint8:
        planes = _from_unit_range(planes, source)
    if planes.shape[2] == 4:
        return composite_on_white(planes)
    return np.array(np.broadcast_to(planes, (*planes.shape[:2], 3)), dtype=np.uint8, order="C")


def pixels_from_tensor(tensor: Any, source: str) -> npt.NDArray[np.uint8]:
    """
    Turn a torch tensor, on whatever device, into H×W×3 uint8 RGB; see :func:`pixels_from_array`.

    A shape that could be either is read as C×H×W.
    """
    dense = tensor.detach()
    try:
        if dense.is_floating_point():
            dense = dense.float()  # NumPy knows no bfloat16
        array = dense.cpu().numpy()
    except (RuntimeError, TypeError, NotImplementedError) as exc:  # sparse, quantised and meta tensors
        raise _invalid(source, f"must be a dense tensor with values (got {tensor.dtype}, {tensor.layout})") from exc
    return pixels_from_array(array, source, channels_first=True)


def composite_on_white(rgba: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Lay H×W×4 pixels (straight alpha) over white: colour · alpha + white · (1 - alpha), rounded."""
    colour, alpha = rgba[..., :3].astype(np.uint16), rgba[..., 3:].astype(np.uint16)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _channels_last(array: npt.NDArray[Any], source: str, channels_first: bool) -> npt.NDArray[Any]:
    shape = "×".join(map(str, array.shape)) or "a single number"
    if array.ndim == 4:
        if array.shape[0] != 1:
            raise _invalid(source, f"must be one picture: pass a batch one by one (got a batch of {array.shape[0]})")
        array = array[0]
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3:
        raise _invalid(source, f"must be {_LAYOUTS} (got {shape})")
    first, last = array.shape[0] in _CHANNELS, array.shape[2] in _CHANNELS
    if not first and not last:
        raise _invalid(source, f"must be {_LAYOUTS} (got {shape})")
    return np.moveaxis(array, 0, 2) if first and (channels_first or not last) else array


def _from_unit_range(planes: npt.NDArray[Any], source: str) -> npt.NDArray[np.uint8]:
    if np.isnan(planes).any():
        raise _invalid(source, f"must be in 0..1 (got NaN in {int(np.isnan(planes).sum())} of {planes.size} values)")
    low, high = float(planes.min()), float(planes.max())
    if np.isinf(low) or np.isinf(high):
        raise _invalid(
            source, f"must be in 0..1 (got infinity in {int(np.isinf(planes).sum())} of {planes.size} values)"
        )
    if low < 0 or high > 1:
        hint = "; divide by 255, or pass uint8" if low >= 0 and 2 <= high <= 255 else ""
        raise _invalid(source, f"must be in 0..1 (got {low:g} to {high:g}){hint}")
    return np.rint(planes.astype(np.float32) * 255).astype(np.uint8)


def _invalid(source: str, complaint: str) -> ValidationError:
    return ValidationError(f"{source}: {complaint}", error_code=ErrorCode.ERR_VAL_INVALID_TENSOR)
