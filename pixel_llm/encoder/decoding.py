"""Image files and PIL images to RGB pixels. Whatever Pillow makes of damaged or hostile input, our errors come out."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from pixel_llm.encoder.arrays import composite_on_white, pixels_from_array
from pixel_llm.encoder.files import check_length, shorten
from pixel_llm.encoder.picture import MAX_PIXELS, check_size
from pixel_llm.encoder.quiet import quiet_pillow
from pixel_llm.errors import EncoderError, ErrorCode, PixelLMError, ValidationError
from pixel_llm.validation import ValueRange
from pixel_llm.validation.complaints import complain

Pixels = npt.NDArray[np.uint8]

#: The formats of Pillow that are read. Left out is what starts programs (EPS starts Ghostscript), what needs others to
#: be read, and what hardly anybody has: each reader is one more way in for a hostile file.
FORMATS = frozenset(
    {"AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP"}
)

#: What an image is called in messages that came as bytes.
IMAGE_BYTES = "image bytes"

#: Bytes that may be a path that someone has passed as bytes are shorter than this.
_LONGEST_PATH = 4096


def decode(content: bytes, name: str) -> Pixels:
    """
    The pixels of an encoded image, upright and on white; of an animation, its first frame.

    Raises:
        ValidationError: ERR_VAL_EMPTY_INPUT for no bytes.
        EncoderError: ERR_ENC_INVALID_INPUT for what is no image, is damaged or too large; ERR_ENC_OUT_OF_MEMORY.
    """
    if not content:
        raise ValidationError(f"{name}: is empty (0 bytes)", error_code=ErrorCode.ERR_VAL_EMPTY_INPUT)
    check_length(len(content), name)
    with _translated(name, content), quiet_pillow(), Image.open(io.BytesIO(content), formats=_formats()) as image:
        return _to_rgb(image, name)


def from_pil(image: Image.Image, name: str, value_range: ValueRange | None = None) -> Pixels:
    """
    The pixels of a PIL image, upright and on white; of an animation, the frame that it stands at.

    Only of the modes F and I can the image not say what *value_range* its numbers have.

    Raises:
        ValidationError: ERR_VAL_INVALID_RANGE if it was closed before it was read, or a *value_range* is given for
            another mode.
        EncoderError: As of :func:`decode`.
    """
    with _translated(name), quiet_pillow():
        check_size(image.width, image.height, name)
        if value_range is not None and not image.mode.startswith(("F", "I")):
            raise complain(name, f'value_range= is for the modes F and I (got "{image.mode}", which says it by itself)')
        try:
            image.load()
        except Exception as exc:
            if _is_closed(image):
                message = f"{name}: must be open: pass it before it is closed, or call load() before"
                raise ValidationError(message) from exc
            raise
        return _to_rgb(image, name, value_range)


def image_suffixes() -> frozenset[str]:
    """The ends of the names, with the dot and in lower case, that files of a format that is read have."""
    formats = FORMATS.union(_formats())  # MPO has no reader of its own in Pillow: JPEG's sees what it is
    return frozenset(end for end, name in Image.registered_extensions().items() if name in formats)


def _formats() -> list[str]:
    """Ours, and what the program itself has registered with Pillow, as pillow-heif does: that is its own choice."""
    Image.init()
    return [name for name, (reader, _) in Image.OPEN.items() if name in FORMATS or _is_foreign(reader)]


def _is_foreign(reader: Any) -> bool:
    return not str(getattr(reader, "__module__", "")).startswith("PIL.")


def _is_closed(image: Image.Image) -> bool:
    file = getattr(image, "fp", None)
    return file is None or bool(getattr(file, "closed", False))


def _to_rgb(image: Image.Image, name: str, value_range: ValueRange | None = None) -> Pixels:
    check_size(image.width, image.height, name)
    image.load()
    check_size(image.width, image.height, name)  # an icon may hold another size than its header says
    upright = _upright(image)
    if upright.mode.startswith("I"):
        return _from_sixteen_bit(upright, name, value_range)
    if upright.mode == "F":
        return pixels_from_array(np.asarray(upright), name, value_range=value_range)[0]
    if upright.mode == "La":  # which Pillow converts to nothing else
        upright = upright.convert("LA")
    if upright.has_transparency_data:
        return composite_on_white(np.asarray(upright.convert("RGBA")))
    return np.array(upright if upright.mode == "RGB" else upright.convert("RGB"), dtype=np.uint8)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - broken EXIF raises anything, and says nothing against the pixels
        return image


def _from_sixteen_bit(image: Image.Image, name: str, value_range: ValueRange | None) -> Pixels:
    """Grey of 16 bits: mode I;16 of whatever byte order, and in some formats I, which could hold 32."""
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise _unreadable(name, f"must have grey values in 0..65535 (got {low} to {high})")
    pixels = pixels_from_array(values, name, value_range=value_range or "0..65535")[0]
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        pixels[values == transparent] = 255
    return pixels


@contextmanager
def _translated(name: str, content: bytes = b"") -> Iterator[None]:
    """Translate whatever Pillow raises on damaged or hostile input."""
    try:
        yield
    except PixelLMError:
        raise
    except MemoryError as exc:
        raise EncoderError(
            f"{name}: not enough memory to decode it", error_code=ErrorCode.ERR_ENC_OUT_OF_MEMORY
        ) from exc
    except UnidentifiedImageError as exc:
        raise _unreadable(name, f"is no image in a format that is read here{_path_hint(name, content)}") from exc
    except Image.DecompressionBombError as exc:
        found = re.search(r"\d+", str(exc))  # Pillow's limit is beyond ours
        came = f" (got {int(found[0]):,})" if found else ""
        raise _unreadable(name, f"must have at most {MAX_PIXELS:,} pixels{came}") from exc
    except Exception as exc:  # Pillow's readers raise OSError, SyntaxError, struct.error, IndexError…
        raise _unreadable(name, f"is damaged or cut off ({shorten(str(exc)) or type(exc).__name__})") from exc


def _path_hint(name: str, content: bytes) -> str:
    looks_like_path = name == IMAGE_BYTES and 0 < len(content) < _LONGEST_PATH and all(byte >= 32 for byte in content)
    return " (bytes are what is in a file, not its path: os.fsdecode() makes a path of them)" if looks_like_path else ""


def _unreadable(name: str, complaint: str) -> EncoderError:
    return EncoderError(f"{name}: {complaint}", error_code=ErrorCode.ERR_ENC_INVALID_INPUT)
