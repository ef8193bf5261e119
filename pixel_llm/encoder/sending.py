"""A picture out, as a data URI for a chat request: scaled down, and as PNG or JPEG."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from pixel_llm.encoder.picture import Picture
from pixel_llm.policy import ImageConfig, ImageFormat
from pixel_llm.resilience.checked import checked

#: A PNG up to this many bytes is always taken: JPEG would save little and blur edges.
_SMALL_PNG = 64 * 1024
#: Drawings compress better as PNG, photographs two to ten times better as JPEG.
_PNG_MAY_EXCEED_JPEG = 1.5

#: Bands of rows from which the size of the whole PNG is judged, and how many rows each has.
_BANDS = 6
_BAND_ROWS = 8
#: The judgement may be wrong by this factor; only beyond it is the PNG not even tried.
_SURELY = 2

_DEFAULT = ImageConfig()


def to_data_uri(picture: Picture, config: ImageConfig = _DEFAULT) -> str:
    """
    Write *picture* as a ``data:`` URI (RFC 2397) for a chat request, as *config* says.

    Its longest side is scaled down to ``max_side`` pixels (Lanczos), never up. With ``format: auto`` PNG is taken
    when it is small (64 KiB at most) or at most 1.5 times as large as JPEG, which drawings and few colours are; else
    JPEG. It is made from the pixels alone: no metadata of the source, such as EXIF and GPS, is in it. Equal pictures
    give equal text. Safe to call from several threads.

    Raises:
        ValidationError: ERR_VAL_INVALID_RANGE if *config* holds what no policy may say.
    """
    config = checked(ImageConfig, config)
    image = _scaled(picture, config.max_side)
    if config.format is ImageFormat.AUTO:
        kind, content = _best(image, config.quality)
    elif config.format is ImageFormat.PNG:
        kind, content = "png", _png(image)
    else:
        kind, content = "jpeg", _jpeg(image, config.quality)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _scaled(picture: Picture, max_side: int) -> Image.Image:
    image = Image.fromarray(picture.pixels)
    scale = max_side / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # The gap lets large pictures be averaged first, which takes half the time and can't be seen.
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _best(image: Image.Image, quality: int) -> tuple[str, bytes]:
    """PNG or JPEG. A PNG takes ten to a hundred times as long, so it is tried only where it has a chance."""
    if image.width * image.height * 3 <= _SMALL_PNG // 2:
        return "png", _png(image)
    jpeg = _jpeg(image, quality)
    limit = max(_SMALL_PNG, _PNG_MAY_EXCEED_JPEG * len(jpeg))
    if _judged_png_size(image) > _SURELY * limit:
        return "jpeg", jpeg
    png = _png(image)
    return ("png", png) if len(png) <= limit else ("jpeg", jpeg)


def _judged_png_size(image: Image.Image) -> float:
    """About how many bytes *image* will have as PNG, judged from a few bands of its rows; 0 if it has few rows."""
    rows = image.height
    if rows < 4 * _BANDS * _BAND_ROWS:
        return 0
    pixels = np.asarray(image)
    starts = np.linspace(0, rows - _BAND_ROWS, _BANDS).astype(int)
    sample = np.concatenate([pixels[start : start + _BAND_ROWS] for start in starts])
    return len(_png(Image.fromarray(sample), compress_level=1)) * rows / len(sample)


def _png(image: Image.Image, **options: Any) -> bytes:
    return _written(image, "PNG", **options)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    return _written(image, "JPEG", quality=quality)


def _written(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
