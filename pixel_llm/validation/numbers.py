"""Numbers from outside."""

from __future__ import annotations

import operator
from typing import Any

from pixel_llm.validation.complaints import came, complain

#: No batch is larger: a thousand pictures of 224×224 are 600 MB as float32, and their features come on top.
MAX_BATCH_SIZE = 1024


def validate_batch_size(value: Any, name: str = "batch_size", *, maximum: int = MAX_BATCH_SIZE) -> int:
    """
    Check how many pictures go through an encoder at once. NumPy's whole numbers pass, True and 8.0 do not.

    Returns:
        *value* as an int.

    Raises:
        ValidationError: ERR_VAL_INVALID_RANGE if it is no whole number from 1 to *maximum*.
    """
    wanted = f"must be a whole number from 1 to {maximum}"
    if isinstance(value, bool):
        raise complain(name, f"{wanted} (got {came(value)})")
    try:
        number = operator.index(value)
    except (TypeError, RuntimeError) as exc:  # RuntimeError: a tensor of several numbers
        raise complain(name, f"{wanted} (got {came(value)})", cause=exc) from exc
    if not 1 <= number <= maximum:
        raise complain(name, f"{wanted} (got {came(number)})")
    return number
