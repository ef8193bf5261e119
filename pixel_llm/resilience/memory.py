"""How much memory a value takes."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any


def memory_size(value: Any) -> int:
    """
    Estimate the memory of *value* and all it refers to, in bytes.

    Follows containers, dataclasses and other objects' attributes; counts the buffers of
    arrays and tensors (``nbytes``); counts each object once.
    """
    seen: set[int] = set()
    total = 0
    pending = [value]
    while pending:
        item = pending.pop()
        if id(item) in seen or isinstance(item, type):
            continue
        seen.add(id(item))
        buffer = getattr(item, "nbytes", 0)
        total += sys.getsizeof(item) + (buffer if isinstance(buffer, int) and not isinstance(item, memoryview) else 0)
        pending.extend(_parts(item))
    return total


def _parts(item: Any) -> Iterable[Any]:
    if isinstance(item, str | bytes | bytearray | int | float | bool | None):
        return ()
    if isinstance(item, dict):
        return (*item.keys(), *item.values())
    if isinstance(item, list | tuple | set | frozenset):
        return item
    slots = (name for cls in type(item).__mro__ for name in getattr(cls, "__slots__", ()))
    slotted = [getattr(item, name) for name in slots if hasattr(item, name)]
    return [*slotted, vars(item)] if hasattr(item, "__dict__") else slotted
