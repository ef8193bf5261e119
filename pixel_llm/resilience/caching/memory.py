"""How much memory a value takes."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
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
        total += _own_size(item)
        pending.extend(_parts(item))
    return total


def _own_size(item: Any) -> int:
    size, buffer = sys.getsizeof(item), getattr(item, "nbytes", 0)
    # An array that owns its buffer counts it by itself; a view or a tensor does not.
    return size + buffer if isinstance(buffer, int) and size < buffer else size


def _parts(item: Any) -> Iterable[Any]:
    if isinstance(item, str | bytes | bytearray | int | float | bool | None):
        return ()
    if isinstance(item, dict):
        return (*item.keys(), *item.values())
    if isinstance(item, list | tuple | set | frozenset | deque):
        return item
    slotted = [getattr(item, name) for name in _slots(type(item)) if hasattr(item, name)]
    return [*slotted, vars(item)] if hasattr(item, "__dict__") else slotted


def _slots(kind: type) -> Iterator[str]:
    for cls in kind.__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            yield f"_{cls.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
