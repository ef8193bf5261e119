"""Whatever a user calls an image in, a :class:`Picture` out."""

from __future__ import annotations

import io
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from pixel_llm.encoder.arrays import composite_on_white, is_tensor, pixels_from_array, pixels_from_tensor
from pixel_llm.encoder.picture import Picture, check_size
from pixel_llm.errors import EncoderError, ErrorCode, PixelLMError, ValidationError

if TYPE_CHECKING:
    import torch

ImageSource: TypeAlias = "str | Path | bytes | BinaryIO | Image.Image | npt.NDArray[Any] | torch.Tensor | Picture"

_MEGABYTE = 1024 * 1024
#: The most bytes an encoded image may have; a picture of MAX_PIXELS is smaller than this in any usual format.
_MAX_BYTES = 512 * _MEGABYTE


def load_image(source: ImageSource) -> Picture:
    """
    Read a picture and convert it to RGB.

    EXIF rotation is applied, transparency laid over white, the first frame of an animation taken;
    ICC profiles are ignored (pixels count as sRGB). Safe to call from several threads.

    Args:
        source: A path, the bytes of an image file, a binary file object, a PIL image, or an array or tensor
            as :func:`pixels_from_array` describes. A :class:`Picture` is returned as it is.

    Raises:
        ValidationError: ERR_VAL_MISSING_FIELD for a missing file, ERR_VAL_INVALID_RANGE for something that is
            no readable file or no image source, ERR_VAL_EMPTY_INPUT for one without content,
            ERR_VAL_INVALID_TENSOR for an array or tensor of the wrong shape, type or values.
        EncoderError: ERR_ENC_INVALID_INPUT for what is no image, is damaged, or has more than MAX_PIXELS pixels;
            ERR_ENC_OUT_OF_MEMORY if memory does not suffice to decode it.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, str | Path):
        name = _shorten(str(source))
        return _decode(_read_file(source, name), name)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(bytes(source), "image bytes")
    if isinstance(source, Image.Image):
        name = _shorten(str(getattr(source, "filename", "") or "PIL image"))
        with _translated(name), _quiet_pillow():
            return Picture(_to_rgb(source, name), name)
    if isinstance(source, np.ndarray):
        return Picture(pixels_from_array(source, "NumPy array"), "NumPy array")
    if is_tensor(source):
        return Picture(pixels_from_tensor(source, "torch tensor"), "torch tensor")
    if hasattr(source, "read"):
        name = _shorten(str(getattr(source, "name", "file object")))
        return _decode(_read_stream(source, name), name)
    raise ValidationError(
        "image must be a path, bytes, a binary file, a PIL image, a NumPy array or a torch tensor "
        f"(got {type(source).__name__})",
        error_code=ErrorCode.ERR_VAL_INVALID_RANGE,
    )


def _read_file(source: str | Path, name: str) -> bytes:
    if isinstance(source, str) and source.startswith(("http://", "https://", "data:")):
        raise ValidationError(f"{name}: is a URL, not a file: fetch it first and pass the bytes")
    if not str(source):
        raise ValidationError("image path is empty", error_code=ErrorCode.ERR_VAL_EMPTY_INPUT)
    try:
        status = Path(source).stat()
        if stat.S_ISDIR(status.st_mode):
            raise ValidationError(f"{name}: is a directory, not an image file")
        if not stat.S_ISREG(status.st_mode):
            raise ValidationError(f"{name}: is no regular file")
        _check_length(status.st_size, name)
        return Path(source).read_bytes()
    except FileNotFoundError as exc:
        raise ValidationError(f"{name}: no such file", error_code=ErrorCode.ERR_VAL_MISSING_FIELD) from exc
    except (OSError, ValueError) as exc:  # ValueError: a null byte in the path
        reason = getattr(exc, "strerror", None) or str(exc)
        raise ValidationError(f"{name}: cannot be read ({reason})") from exc


def _read_stream(stream: Any, name: str) -> bytes:
    try:
        content = stream.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as exc:  # ValueError: the file is closed, or not UTF-8 and open as text
        raise ValidationError(f"{name}: cannot be read ({exc})") from exc
    if not isinstance(content, bytes | bytearray):
        raise ValidationError(f"{name}: must be open in binary mode (got {type(content).__name__} from read())")
    return bytes(content)


def _check_length(length: int, name: str) -> None:
    if length > _MAX_BYTES:
        raise EncoderError(
            f"{name}: must have at most {_MAX_BYTES // _MEGABYTE} MiB (got {length / _MEGABYTE:.0f})",
            error_code=ErrorCode.ERR_ENC_INVALID_INPUT,
        )


def _decode(content: bytes, name: str) -> Picture:
    if not content:
        raise ValidationError(f"{name}: is empty (0 bytes)", error_code=ErrorCode.ERR_VAL_EMPTY_INPUT)
    _check_length(len(content), name)
    with _translated(name), _quiet_pillow(), Image.open(io.BytesIO(content)) as image:
        return Picture(_to_rgb(image, name), name)


def _to_rgb(image: Image.Image, name: str) -> npt.NDArray[np.uint8]:
    check_size(image.width, image.height, name)
    image.load()
    upright = _upright(image)
    if upright.mode.startswith("I"):
        return pixels_from_array(_from_sixteen_bit(upright), name)
    if upright.mode == "F":
        return pixels_from_array(np.asarray(upright), name)
    if upright.has_transparency_data:
        return composite_on_white(np.asarray(upright.convert("RGBA")))
    return np.array(upright.convert("RGB"), dtype=np.uint8)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - broken EXIF raises anything, and says nothing against the pixels
        return image


def _from_sixteen_bit(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Scale 0..65535 to 0..255; Pillow gives 16-bit grey as mode I;16, and in some formats as I."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"grey values must be in 0..65535 (got {values.min()} to {values.max()})")
    return ((values + 128) // 257).astype(np.uint8)


@contextmanager
def _translated(name: str) -> Iterator[None]:
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
        raise _unreadable(name, "is no image in a format that Pillow reads") from exc
    except Image.DecompressionBombError as exc:
        raise _unreadable(name, f"has too many pixels ({exc})") from exc
    except Exception as exc:  # Pillow's readers raise OSError, SyntaxError, struct.error, IndexError…
        raise _unreadable(name, f"is damaged or cut off ({_shorten(str(exc)) or type(exc).__name__})") from exc


def _unreadable(name: str, complaint: str) -> EncoderError:
    return EncoderError(f"{name}: {complaint}", error_code=ErrorCode.ERR_ENC_INVALID_INPUT)


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else f"{line[:157]}…"


_quiet_lock = threading.Lock()
_quiet_users = 0
_quiet_state: warnings.catch_warnings[None] | None = None


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """
    Hold back the warnings that Pillow itself issues: what matters in them, we raise.

    The filters are the whole process's, so all threads in here share one change of them; and only
    Pillow's own modules are silenced, so that another's change at the same time cannot lose more.
    """
    global _quiet_users, _quiet_state
    with _quiet_lock:
        if _quiet_users == 0:
            _quiet_state = warnings.catch_warnings()
            _quiet_state.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
        _quiet_users += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users -= 1
            if _quiet_users == 0 and _quiet_state is not None:
                _quiet_state.__exit__(None, None, None)
                _quiet_state = None
