"""NumPy arrays and torch tensors in, RGB pixels out. What they may look like, the room `validation` says."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pixel_llm.encoder.picture import check_size
from pixel_llm.errors import EncoderError, ErrorCode
from pixel_llm.policy.showing import count
from pixel_llm.validation import Layout, ValueRange
from pixel_llm.validation.complaints import Complaints
from pixel_llm.validation.image_tensors import check_batch, read_range, read_shape
from pixel_llm.validation.tensors import as_array, dtype_name, sizes_of

#: So many values are converted at once, so that a large picture needs little more memory than its pixels.
_BAND = 4_000_000


def pixels_from_array(
    value: Any,
    source: str,
    *,
    layout: Layout | None = None,
    value_range: ValueRange | None = None,
    batched: bool | None = None,
) -> list[npt.NDArray[np.uint8]]:
    """
    Turn an array or a tensor, on whatever device, into H×W×3 uint8 RGB, one for each picture in it.

    The results share no memory with *value*. Grey is repeated, transparency laid over white.

    Args:
        value: See :func:`pixel_llm.validation.validate_image_tensor`, also for *layout*, *value_range*, *batched*.
        source: What to call the array in messages.
        layout: ``chw`` or ``hwc``, for shapes that can be read as either.
        value_range: What stands for black and white, where it isn't uint8 from 0 to 255 or float from 0 to 1.
        batched: Whether a batch is wanted; with False a batch of one passes, with None anything.

    Raises:
        ValidationError: With everything that is wrong; codes as in that function.
        EncoderError: ERR_ENC_INVALID_INPUT for more than MAX_PIXELS pixels in a picture; ERR_ENC_OUT_OF_MEMORY.
    """
    found = Complaints()
    shape = read_shape(found, source, sizes_of(value, source), layout)
    if shape is not None:
        check_size(shape.width, shape.height, source)  # before anything is copied, from another device perhaps
        if batched is not None:
            check_batch(found, source, shape, batched=batched)
    array = as_array(value, source)
    low, high = read_range(found, source, array, dtype_name(value), value_range)
    found.finish()
    assert shape is not None  # noqa: S101 - else there was a complaint
    pictures = array if shape.batch is not None else array[None]
    if shape.layout == "hw":
        pictures = pictures[..., None]
    elif shape.layout == "chw":
        pictures = np.moveaxis(pictures, 1, 3)
    try:
        return [_to_rgb(picture, low, high) for picture in pictures]
    except MemoryError as exc:
        message = f"{source}: not enough memory to convert it ({count(len(pictures), 'picture')})"
        raise EncoderError(message, error_code=ErrorCode.ERR_ENC_OUT_OF_MEMORY) from exc


def composite_on_white(rgba: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Lay H×W×4 pixels (straight alpha) over white: colour · alpha + white · (1 - alpha), rounded."""
    return _to_rgb(rgba, 0, 255)


def _to_rgb(planes: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    """H×W×C to RGB, *low* to black and *high* to white."""
    height, width, channels = planes.shape
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND // (width * channels))
    for top in range(0, height, rows):
        band = _scaled(planes[top : top + rows], low, high)
        pixels[top : top + rows] = _composite(band) if channels == 4 else band
    return pixels


def _scaled(values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    if values.dtype == np.uint8 and (low, high) == (0, 255):
        return np.asarray(values, np.uint8)
    scaled = (values.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    # Float calculations may leave the range by what they round.
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


def _composite(rgba: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    colour, alpha = rgba[..., :3].astype(np.uint16), rgba[..., 3:].astype(np.uint16)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
