"""A picture as the rest of the room sees it: RGB pixels, where they came from, and a digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pixel_llm.errors import EncoderError, ErrorCode, ValidationError

#: The most pixels a picture may have (4 × 26,214,400). Larger ones are refused before they are decoded.
MAX_PIXELS = 104_857_600

#: The longest side a picture may have, as in JPEG. A line of a hundred million pixels is no picture.
MAX_SIDE = 65_535


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """
    A decoded picture. Immutable, safe to share between threads.

    Attributes:
        pixels: H×W×3 RGB (sRGB), uint8, contiguous and read-only.
        source: What the picture is called in messages, such as its path.

    Raises:
        ValidationError: If *pixels* are not H×W×3 uint8, or there are none.
    """

    pixels: npt.NDArray[np.uint8] = field(repr=False)
    source: str = "picture"
    _digest: str | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        pixels = self.pixels
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            came = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
            raise ValidationError(
                f"{self.source}: pixels must be a uint8 NumPy array of H×W×3 (got {came})",
                error_code=ErrorCode.ERR_VAL_INVALID_TENSOR,
            )
        if pixels.size == 0:
            raise ValidationError(f"{self.source}: has no pixels", error_code=ErrorCode.ERR_VAL_EMPTY_INPUT)
        frozen = np.ascontiguousarray(pixels).view()
        frozen.flags.writeable = False
        object.__setattr__(self, "pixels", frozen)

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def digest(self) -> str:
        """SHA-256 over shape and pixels, in hex: equal pictures have equal digests, whatever file they came from."""
        if self._digest is None:
            content = hashlib.sha256(f"{self.height}x{self.width}x3:".encode())
            content.update(self.pixels.data)
            object.__setattr__(self, "_digest", content.hexdigest())  # a race computes the same value twice
        assert self._digest is not None  # noqa: S101 - set in the line above; for the type checker
        return self._digest


def check_size(width: int, height: int, source: str) -> None:
    """Refuse a picture without pixels (ValidationError), or with too many or too long a side (EncoderError)."""
    if width <= 0 or height <= 0:
        raise ValidationError(f"{source}: has no pixels", error_code=ErrorCode.ERR_VAL_EMPTY_INPUT)
    wanted = None
    if width * height > MAX_PIXELS:
        wanted = f"at most {MAX_PIXELS:,} pixels (got {width}×{height} = {width * height:,})"
    elif max(width, height) > MAX_SIDE:
        wanted = f"sides of at most {MAX_SIDE:,} pixels (got {width}×{height})"
    if wanted is not None:
        raise EncoderError(f"{source}: must have {wanted}", error_code=ErrorCode.ERR_ENC_INVALID_INPUT)
