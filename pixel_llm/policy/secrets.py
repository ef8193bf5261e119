"""Values that nothing prints."""

from __future__ import annotations

import hashlib
from typing import Any

from pixel_llm.errors import ErrorCode, ValidationError


class Secret:
    """
    A secret text. Its repr, its str and its pickle show nothing.

    A pickled secret arrives empty: :meth:`reveal` then raises, so a key can't leave
    the process by accident. Immutable, safe to share between threads.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str | None) -> None:
        self._value = value

    def reveal(self) -> str:
        """
        The text itself.

        Raises:
            ValidationError: If the secret came out of a pickle.
        """
        if self._value is None:
            raise ValidationError(
                "the secret did not travel with the pickle: load the policies again in this process",
                error_code=ErrorCode.ERR_VAL_MISSING_FIELD,
            )
        return self._value

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that tell secrets apart without telling them."""
        return hashlib.sha256(b"pixel-llm\0" + self.reveal().encode()).hexdigest()[:12]

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Secret, (None,)
