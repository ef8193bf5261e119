"""Tensors and arrays: shape, dtype, value range. Knows torch only when the caller has already loaded it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pixel_llm.errors import ErrorCode
from pixel_llm.policy.showing import count
from pixel_llm.policy.suggestions import one_of
from pixel_llm.validation.complaints import Complaints, came, complain

T = TypeVar("T")

Array = npt.NDArray[Any]


def validate_tensor(
    value: T,
    name: str = "tensor",
    *,
    shape: Sequence[int | None] | None = None,
    dtype: Any = None,
    value_range: tuple[float | None, float | None] | None = None,
    dimensions: int | Collection[int] | None = None,
    finite: bool = True,
    may_be_empty: bool = False,
) -> T:
    """
    Check a NumPy array or a torch tensor, on whatever device. Safe to call from several threads.

    Args:
        value: What is checked; it is not changed.
        name: What to call it in messages.
        shape: The sizes wanted, None where any will do.
        dtype: The type wanted, or several: names such as ``"float32"``, or NumPy's or torch's own types.
        value_range: The smallest and the largest value, both included; None where there is no bound.
        dimensions: How many dimensions are wanted, or which numbers will do.
        finite: Refuse NaN and infinity; the message says how many there are, and where the first is.
        may_be_empty: Let pass what has no values.

    Returns:
        *value* itself.

    Raises:
        ValidationError: With everything that is wrong: ERR_VAL_INVALID_TENSOR, ERR_VAL_EMPTY_INPUT if there are no
            values, ERR_VAL_INVALID_RANGE if only values are out of range.
    """
    low, high = value_range or (None, None)
    if low != low or high != high:  # nothing is outside of NaN
        raise complain("value_range", f"must be two numbers or None (got {came(value_range)})")
    array = as_array(value, name)
    found = Complaints()
    wrong = ErrorCode.ERR_VAL_INVALID_TENSOR
    if dimensions is not None and array.ndim not in (wanted := _numbers(dimensions)):
        say = one_of(map(str, sorted(wanted)))
        found.add(name, f"must have {say} dimensions (got {array.ndim}: {shape_text(array.shape)})", wrong)
    if shape is not None and not _fits(array.shape, shape):
        sizes = "×".join("any" if size is None else str(size) for size in shape)
        found.add(name, f"must have the shape {sizes} (got {shape_text(array.shape)})", wrong)
    if dtype is not None and dtype_name(value) not in (names := _dtype_names(dtype)):
        found.add(name, f"must be {one_of(names)} (got {dtype_name(value)})", wrong)
    if array.size == 0:
        if not may_be_empty:
            found.add(name, f"has no values (got {shape_text(array.shape)})", ErrorCode.ERR_VAL_EMPTY_INPUT)
    elif array.dtype.kind not in "biuf":
        found.add(name, f"must hold real numbers (got {dtype_name(value)})", wrong)
    else:
        check_values(found, name, array, low, high, finite=finite)
    found.finish()
    return value


def is_tensor(value: object) -> bool:
    """True if *value* is a torch tensor. Loads no torch: without it there are no tensors."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def as_array(value: Any, name: str) -> Array:
    """
    The values of an array or a tensor as a plain NumPy array, which may share its memory.

    Raises:
        ValidationError: ERR_VAL_INVALID_TENSOR if *value* is neither, or has no values in memory of its own: sparse,
            quantised and meta tensors, and arrays of which a part is masked.
    """
    wrong = ErrorCode.ERR_VAL_INVALID_TENSOR
    if is_tensor(value):
        return _from_torch(value, name)
    if not isinstance(value, np.ndarray):
        raise complain(name, f"must be a NumPy array or a torch tensor (got {came(value)})", wrong)
    if isinstance(value, np.ma.MaskedArray):
        if masked := int(np.ma.getmaskarray(value).sum()):
            message = f"must have no masked values: fill them first, as with .filled(0) (got {masked} of {value.size})"
            raise complain(name, message, wrong)
        value = value.data
    return np.asarray(value)


def _from_torch(tensor: Any, name: str) -> Array:
    try:
        dense = tensor.detach().cpu().resolve_neg()
        if dense.is_floating_point() and dense.element_size() < 4:
            dense = dense.float()  # NumPy knows neither bfloat16 nor the types of 8 bits
        array: Array = dense.numpy()
    except (RuntimeError, TypeError, NotImplementedError) as exc:
        message = f"must be a dense tensor with values (got {dtype_name(tensor)}, {tensor.layout})"
        raise complain(name, message, ErrorCode.ERR_VAL_INVALID_TENSOR, cause=exc) from exc
    return array


def sizes_of(value: Any, name: str) -> tuple[int, ...]:
    """The shape of an array or a tensor, which costs no copy."""
    try:
        return tuple(value.shape)
    except RuntimeError as exc:  # a nested tensor has none
        message = "must be a dense tensor with a shape (got one without)"
        raise complain(name, message, ErrorCode.ERR_VAL_INVALID_TENSOR, cause=exc) from exc


def dtype_name(value: Any) -> str:
    """The name that NumPy or torch gives the type of the values."""
    dtype = value.dtype
    return dtype.name if isinstance(dtype, np.dtype) else str(dtype).removeprefix("torch.")


def shape_text(shape: Sequence[int]) -> str:
    """``3×224×224``."""
    return "×".join(map(str, shape)) or "a single number"


def check_values(
    found: Complaints,
    name: str,
    array: Array,
    low: float | None,
    high: float | None,
    *,
    finite: bool = True,
    slack: float = 0,
    hint: Callable[[float, float], str] | None = None,
) -> None:
    """
    Note in *found* what *array*, which is not empty and holds real numbers, has outside *low* to *high*.

    NaN and infinity are ERR_VAL_INVALID_TENSOR, other values ERR_VAL_INVALID_RANGE. *slack* is how far outside values
    may be; *hint* ends the message about those that are not, given the smallest and the largest of all.
    """
    with np.errstate(invalid="ignore"):
        smallest, largest = float(array.min()), float(array.max())
    low, high = None if low is None else low - slack, None if high is None else high + slack
    if finite and not (math.isfinite(smallest) and math.isfinite(largest)):
        for what, places in (("NaN", np.isnan(array)), ("infinity", np.isinf(array))):
            if places.any():
                message = f"must be finite (got {what} in {_how_many(places)})"
                found.add(name, message, ErrorCode.ERR_VAL_INVALID_TENSOR)
    if (low is None or smallest >= low) and (high is None or largest <= high):
        return
    outside = np.zeros(array.shape, bool)
    if low is not None:
        outside |= array < low
    if high is not None:
        outside |= array > high
    if finite:
        outside &= np.isfinite(array)
    if outside.any():
        values = array[outside]
        came = f"got {values.min():g} to {values.max():g} in {_how_many(outside)}"
        end = hint(smallest, largest) if hint is not None else ""
        found.add(name, f"must be {_span(low, high, slack)} ({came}){end}")


def _how_many(places: npt.NDArray[np.bool_]) -> str:
    first = [int(index) for index in np.unravel_index(int(places.argmax()), places.shape)]
    return f"{int(places.sum())} of {count(places.size, 'value')}, the first at {first}"


def _span(low: float | None, high: float | None, slack: float) -> str:
    if low is None:
        return f"at most {(high or 0) - slack:g}"
    return f"at least {low + slack:g}" if high is None else f"in {low + slack:g}..{high - slack:g}"


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(
        size is None or size == came_size for size, came_size in zip(wanted, shape, strict=True)
    )


def _numbers(dimensions: int | Collection[int]) -> set[int]:
    return {dimensions} if isinstance(dimensions, int) else set(dimensions)


def _dtype_names(dtype: Any) -> list[str]:
    several = dtype if isinstance(dtype, tuple | list | set | frozenset) else (dtype,)
    return [one if isinstance(one, str) else _dtype_name(one) for one in several]


def _dtype_name(dtype: Any) -> str:
    text = str(dtype)
    return text.removeprefix("torch.") if text.startswith("torch.") else np.dtype(dtype).name
