"""Arrays and tensors that are pictures: how they are laid out, and what their values mean. Said, not guessed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pixel_llm.errors import ErrorCode
from pixel_llm.policy.suggestions import one_of
from pixel_llm.validation.complaints import Complaints, came
from pixel_llm.validation.tensors import Array, as_array, check_values, dtype_name, shape_text

Layout: TypeAlias = Literal["chw", "hwc"]
ValueRange: TypeAlias = Literal["0..1", "-1..1", "0..255", "0..65535"]

#: Grey, RGB and RGBA.
CHANNELS = (1, 3, 4)

#: What stands for black and for white.
VALUE_RANGES: dict[str, tuple[float, float]] = {
    "0..1": (0.0, 1.0),
    "-1..1": (-1.0, 1.0),
    "0..255": (0.0, 255.0),
    "0..65535": (0.0, 65535.0),
}

#: How far floats may be out of their range, as a share of it: what calculations round. It is cut off.
ROUNDING = 1e-5

_LAYOUTS = {"chw": "C×H×W", "hwc": "H×W×C"}


@dataclass(frozen=True, slots=True)
class ImageShape:
    """
    How an array is laid out. Immutable.

    Attributes:
        layout: ``chw`` or ``hwc``; ``hw`` if it has no axis for channels.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        height: In pixels.
        width: In pixels.
        batch: How many pictures there are; None without an axis for them.
    """

    layout: Literal["hw", "chw", "hwc"]
    channels: int
    height: int
    width: int
    batch: int | None = None


def validate_image_tensor(
    value: Any,
    name: str = "image",
    *,
    layout: Layout | None = None,
    value_range: ValueRange | None = None,
    channels: Collection[int] = CHANNELS,
    batched: bool | None = None,
) -> ImageShape:
    """
    Check an array or a tensor that is to be a picture, or a batch of them. Safe to call from several threads.

    What is a picture here is one for :func:`pixel_llm.encoder.load_image`, which takes the same parts.

    Args:
        value: H×W, H×W×C or C×H×W, or a batch of those that have channels.
        name: What to call it in messages.
        layout: ``chw`` or ``hwc``. Needed only for shapes that can be read as either, such as 3×5×3.
        value_range: What stands for black and white. Without it, uint8 means ``0..255`` and float ``0..1``, whatever
            values there are; for every other type it is needed.
        channels: The numbers of channels that will do, out of 1, 3 and 4.
        batched: Whether an axis for the batch is wanted. With False, a batch of one passes.

    Returns:
        How *value* is laid out.

    Raises:
        ValidationError: With everything that is wrong; codes as in :func:`validate_tensor`.
    """
    array = as_array(value, name)
    found = Complaints()
    shape = read_shape(found, name, array.shape, layout, channels)
    if shape is not None and batched is not None:
        check_batch(found, name, shape, batched=batched)
    read_range(found, name, array, dtype_name(value), value_range)
    found.finish()
    assert shape is not None  # noqa: S101 - else there was a complaint
    return shape


def check_batch(found: Complaints, name: str, shape: ImageShape, *, batched: bool) -> None:
    """Note in *found* if there is a batch where one picture is wanted, or the other way round."""
    wrong = ErrorCode.ERR_VAL_INVALID_TENSOR
    if batched and shape.batch is None:
        found.add(name, "must be a batch, with an axis for it in front (got one picture)", wrong)
    elif not batched and shape.batch is not None and shape.batch != 1:
        found.add(name, f"must be one picture: pass a batch one by one (got a batch of {shape.batch})", wrong)


def read_shape(
    found: Complaints,
    name: str,
    sizes: Sequence[int],
    layout: Layout | None,
    channels: Collection[int] = CHANNELS,
) -> ImageShape | None:
    """How an array of *sizes* is laid out; None, and a complaint in *found*, if that can't be said."""
    wrong = ErrorCode.ERR_VAL_INVALID_TENSOR
    if layout is not None and (not isinstance(layout, str) or layout not in _LAYOUTS):
        found.add(name, f'the layout must be "chw" or "hwc" (got {came(layout)})')
        return None
    batch, rest = (sizes[0], sizes[1:]) if len(sizes) == 4 else (None, sizes)
    if any(size == 0 for size in sizes):
        found.add(name, f"has no pixels (got {shape_text(sizes)})", ErrorCode.ERR_VAL_EMPTY_INPUT)
        return None
    if len(rest) == 2 and 1 in channels:
        return ImageShape("hw", 1, rest[0], rest[1])
    number = one_of(map(str, sorted(channels)))
    if len(rest) != 3:
        shapes = f"H×W, H×W×C or C×H×W with C of {number}, or a batch of such"
        found.add(name, f"must be {shapes} (got {shape_text(sizes)})", wrong)
        return None
    ways: tuple[tuple[Layout, int], ...] = (("chw", rest[0]), ("hwc", rest[2]))
    fits = [way for way, size in ways if size in channels]
    if layout is None and len(fits) == 2:
        found.add(
            name, f'can be read as C×H×W and as H×W×C: say layout="chw" or "hwc" (got {shape_text(sizes)})', wrong
        )
        return None
    way = layout or next(iter(fits), None)
    if way not in fits:
        shapes = _LAYOUTS[layout] if layout else "H×W×C or C×H×W"
        found.add(name, f"must be {shapes} with C of {number} (got {shape_text(sizes)})", wrong)
        return None
    if way == "chw":
        return ImageShape("chw", rest[0], rest[1], rest[2], batch)
    return ImageShape("hwc", rest[2], rest[0], rest[1], batch)


def read_range(
    found: Complaints, name: str, array: Array, dtype: str, value_range: ValueRange | None
) -> tuple[float, float]:
    """What stands for black and for white in *array*; complaints in *found* if its values do not fit."""
    if value_range is not None and value_range not in VALUE_RANGES:
        found.add(name, f"value_range must be {one_of(VALUE_RANGES)} (got {came(value_range)})")
        return 0.0, 1.0
    kind = array.dtype.kind
    said = value_range or ("0..255" if dtype == "uint8" else "0..1" if kind == "f" else None)
    if kind not in "biuf":
        found.add(name, f"must be numbers, such as uint8 or float32 (got {dtype})", ErrorCode.ERR_VAL_INVALID_TENSOR)
        return 0.0, 1.0
    if said is None:
        found.add(
            name,
            f"must be uint8, or float in 0..1, unless value_range says what its values mean (got {dtype})",
            ErrorCode.ERR_VAL_INVALID_TENSOR,
        )
        return 0.0, 1.0
    low, high = VALUE_RANGES[said]
    if array.size and not (dtype == "uint8" and said == "0..255"):
        slack = ROUNDING * (high - low) if kind == "f" else 0
        check_values(found, name, array, low, high, slack=slack, hint=_hint if value_range is None else None)
    return low, high


def _hint(smallest: float, largest: float) -> str:
    """Which range is likely meant; never taken without being said, since another picture would fit another one."""
    for name, (low, high) in VALUE_RANGES.items():
        if low <= smallest and largest <= high:
            return f'; if it is meant, say value_range="{name}"'
    return ""
