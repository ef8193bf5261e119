"""What is wrong with an input, collected: everything is said at once, each with its field."""

from __future__ import annotations

from typing import Any

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.policy.showing import show

#: Of more complaints than this, only the first are said; a list of a million wrong items has a million.
MOST_SAID = 20

_LONGEST_SHOWN = 60


class Complaints:
    """Collects complaints about one input. For one thread."""

    def __init__(self) -> None:
        self._found: list[dict[str, str]] = []
        self._left_out = 0

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, field: str, message: str, code: ErrorCode = ErrorCode.ERR_VAL_INVALID_RANGE) -> None:
        """Note that *field* is wrong. *message* says what was wanted and what came."""
        if len(self._found) >= MOST_SAID:
            self._left_out += 1
        else:
            self._found.append({"field": field, "message": message, "error_code": code.value})

    def finish(self) -> None:
        """
        Raise what was collected, if anything was.

        Raises:
            ValidationError: One line for each complaint, with the code of the first; ``details["problems"]``
                has them one by one.
        """
        if self._found:
            lines = [f"{problem['field']}: {problem['message']}" for problem in self._found]
            if self._left_out:
                lines.append(f"and {self._left_out} more")
            code = ErrorCode(self._found[0]["error_code"])
            raise ValidationError("\n".join(lines), error_code=code, details={"problems": self._found})


def complain(
    field: str, message: str, code: ErrorCode = ErrorCode.ERR_VAL_INVALID_RANGE, *, cause: BaseException | None = None
) -> ValidationError:
    """The error of a single complaint, to be raised."""
    found = Complaints()
    found.add(field, message, code)
    try:
        found.finish()
    except ValidationError as error:
        error.__cause__ = cause
        return error
    raise AssertionError("a complaint was added")


def came(value: Any) -> str:
    """*value* for a message: short, on one line, and never the inside of something large."""
    if isinstance(value, str):
        return show(value[:_LONGEST_SHOWN])
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    if value is None or isinstance(value, bool | int | float):
        return show(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} bytes"
    return type(value).__name__
