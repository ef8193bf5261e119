"""Whatever a user calls an image in, a :class:`Picture` out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from pixel_llm.encoder.arrays import pixels_from_array
from pixel_llm.encoder.decoding import IMAGE_BYTES, decode, from_pil
from pixel_llm.encoder.files import name_of, read_path, read_stream, shorten
from pixel_llm.encoder.picture import Picture
from pixel_llm.errors import ErrorCode, PixelLMError
from pixel_llm.validation import Layout, ValueRange
from pixel_llm.validation.complaints import came, complain
from pixel_llm.validation.tensors import is_tensor, sizes_of

if TYPE_CHECKING:
    import torch

ImageSource: TypeAlias = (
    "str | os.PathLike[str] | os.PathLike[bytes] | bytes | bytearray | memoryview | BinaryIO | Image.Image "
    "| npt.NDArray[Any] | torch.Tensor | Picture"
)

_ARRAY, _TENSOR = "NumPy array", "torch tensor"


def load_image(source: ImageSource, *, layout: Layout | None = None, value_range: ValueRange | None = None) -> Picture:
    """
    Read one picture and convert it to RGB.

    EXIF rotation is applied, transparency laid over white, the first frame of an animation taken (of a PIL image the
    one that it stands at); ICC profiles are ignored (pixels count as sRGB). Safe to call from several threads, but for
    one file object or one unread PIL image in two of them.

    Args:
        source: A path, the bytes of an image file, a binary file object (read from where it stands), a PIL image, or
            an array or tensor. A :class:`Picture` is returned as it is.
        layout: ``chw`` or ``hwc``. Only arrays need it, and only those of a shape that can be read as either.
        value_range: What stands for black and white in an array, or a PIL image of mode F or I: ``0..1``, ``-1..1``,
            ``0..255`` or ``0..65535``. Without it, uint8 means ``0..255``, float ``0..1`` and mode I ``0..65535``,
            whatever values there are.

    Raises:
        ValidationError: ERR_VAL_MISSING_FIELD for a missing file, ERR_VAL_INVALID_RANGE for something that is no
            readable file, no image source or an array with values out of range, ERR_VAL_EMPTY_INPUT for one without
            content, ERR_VAL_INVALID_TENSOR for an array or tensor of the wrong shape or type, or with NaN or infinity.
        EncoderError: ERR_ENC_INVALID_INPUT for what is no image, is damaged, or has more than MAX_PIXELS pixels;
            ERR_ENC_OUT_OF_MEMORY if memory does not suffice to decode it.
    """
    if isinstance(source, np.ndarray) or is_tensor(source):
        name = _array_name(source)
        pixels = pixels_from_array(source, name, layout=layout, value_range=value_range, batched=False)
        return Picture(pixels[0], name)
    if layout is not None:
        raise complain("image", f"layout= is for arrays and tensors (got {came(source)}, which has its own)")
    if isinstance(source, Image.Image):
        name = _pil_name(source)
        return Picture(from_pil(source, name, value_range), name)
    if value_range is not None:
        raise complain(
            "image", f"value_range= is for arrays, tensors and PIL images of mode F or I (got {came(source)})"
        )
    if isinstance(source, Picture):
        return source
    if isinstance(source, bytes | bytearray | memoryview):
        return Picture(decode(bytes(source), IMAGE_BYTES), IMAGE_BYTES)
    if isinstance(source, str | os.PathLike):
        content = read_path(source)
        name = shorten(os.fsdecode(source))
        return Picture(decode(content, name), name)
    if hasattr(source, "read"):
        name = name_of(source)
        return Picture(decode(read_stream(source), name), name)
    hint = "; numpy.asarray() makes an array of it" if hasattr(source, "__array__") else ""
    raise complain(
        "image",
        "must be a path, bytes, a binary file, a PIL image, a NumPy array or a torch tensor "
        f"(got {came(source)}){hint}",
    )


def load_images(
    source: ImageSource | Iterable[ImageSource], *, layout: Layout | None = None, value_range: ValueRange | None = None
) -> list[Picture]:
    """
    Read several pictures: those of a batch (an array or tensor of four dimensions), or of an iterable of sources.

    Whatever else :func:`load_image` takes gives a list of one. All are in memory at once; for many files call
    :func:`load_image` for each when its turn comes.

    Args:
        source: A batch, an iterable of sources that are one picture each, or a single source.
        layout: As in :func:`load_image`, for all of them.
        value_range: As in :func:`load_image`, for all of them.

    Raises:
        ValidationError: As of :func:`load_image`, and ERR_VAL_EMPTY_INPUT if there are no pictures.
        EncoderError: As of :func:`load_image`. Messages say which picture it was, counted from 0.
    """
    if isinstance(source, np.ndarray) or is_tensor(source):
        return _batch(source, layout, value_range)
    if _is_single(source):
        return [load_image(source, layout=layout, value_range=value_range)]  # type: ignore[arg-type]  # just looked at
    pictures = []
    for index, one in enumerate(source):  # type: ignore[arg-type]  # what is no single source can be iterated
        try:
            pictures.append(load_image(one, layout=layout, value_range=value_range))
        except PixelLMError as error:
            error.add_note(f"in images[{index}]")
            error.details["index"] = index
            raise
    if not pictures:
        raise complain("images", "must hold at least one picture (got none)", ErrorCode.ERR_VAL_EMPTY_INPUT)
    return pictures


def _batch(source: Any, layout: Layout | None, value_range: ValueRange | None) -> list[Picture]:
    name = _array_name(source)
    sizes = sizes_of(source, name)
    if len(sizes) == 4 and sizes[0] == 0:
        raise complain("images", "must hold at least one picture (got none)", ErrorCode.ERR_VAL_EMPTY_INPUT)
    pictures = pixels_from_array(source, name, layout=layout, value_range=value_range)
    names = [f"{name}[{index}]" for index in range(len(pictures))] if len(sizes) == 4 else [name]
    return [Picture(pixels, called) for pixels, called in zip(pictures, names, strict=True)]


def _is_single(source: Any) -> bool:
    """A file object can be iterated too, line by line; so can a text, a path's bytes and anything with ``read``."""
    kinds = (str, bytes, bytearray, memoryview, os.PathLike, Image.Image, Picture)
    return isinstance(source, kinds) or hasattr(source, "read") or not isinstance(source, Iterable)


def _array_name(source: Any) -> str:
    return _ARRAY if isinstance(source, np.ndarray) else _TENSOR


def _pil_name(image: Image.Image) -> str:
    filename = getattr(image, "filename", "") or "PIL image"
    return shorten(os.fsdecode(filename)) if isinstance(filename, str | bytes) else "PIL image"
