"""What a model is built from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixel_llm.errors import ErrorCode, ValidationError

#: Settings whose value no repr shows …
_SECRET = frozenset({"api_key"})
#: … and the part of an address that it does not show.
_CREDENTIALS = re.compile(r"://[^/?#\s]*@")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class HybridConfig:
    """
    What a :class:`HybridPixelLLM` is built from, to build the same one elsewhere. Immutable; pickles.

    A model holds sockets and threads, so it can't be pickled; hand its ``config`` to the other process, and build one
    there with :meth:`HybridPixelLLM.from_config`. Environment variables are read there, too. Its repr shows no
    `api_key`; its pickle holds one that was given here, so that the other model has it.

    Attributes:
        profile: The profile's name, or None as the argument has it.
        policies: The folder of policies, or None as the argument has it.
        error_config: Sections laid over the profile, or None. A copy of what was given, down to its last list.

    Raises:
        ValidationError: If one of them is of another kind.
    """

    profile: str | None = None
    policies: str | Path | None = None
    error_config: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _check("profile", self.profile, str, "the name of a profile")
        _check("policies", self.policies, (str, Path), "a folder of policies, or loaded ones")
        _check("error_config", self.error_config, Mapping, "a mapping of policy sections")
        object.__setattr__(self, "error_config", _copy(self.error_config))

    def __repr__(self) -> str:
        shown = _copy(self.error_config, hide=True)
        return f"HybridConfig(profile={self.profile!r}, policies={self.policies!r}, error_config={shown!r})"


def _check(name: str, value: object, kinds: type | tuple[type, ...], wanted: str) -> None:
    if value is not None and not isinstance(value, kinds):
        raise ValidationError(
            f"{name} must be {wanted} (got {type(value).__name__})",
            error_code=ErrorCode.ERR_VAL_INVALID_RANGE,
            details={"field": name},
        )


def _copy(value: Any, *, hide: bool = False) -> Any:
    """*value*, with dicts and lists of its own; *hide* leaves out what is secret."""
    if isinstance(value, Mapping):
        return {
            name: "***" if hide and name in _SECRET and inner else _copy(inner, hide=hide)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_copy(inner, hide=hide) for inner in value]
    return _CREDENTIALS.sub("://***@", value) if hide and isinstance(value, str) else value
