"""Settings from outside: any mapping by rules of the caller, and our own sections by those of the policy language."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from pixel_llm.errors import ErrorCode, Place, PolicyError, ValidationError
from pixel_llm.policy import EncoderConfig, LMStudioConfig, Secret
from pixel_llm.policy.interpolation import Interpolator
from pixel_llm.policy.meaning import check_meaning
from pixel_llm.policy.merging import without_nulls
from pixel_llm.policy.nodes import Node, node_from
from pixel_llm.policy.schema import check_effective
from pixel_llm.policy.sections.document import POLICY, PolicyConfig
from pixel_llm.policy.suggestions import one_of, suggestion
from pixel_llm.validation.complaints import Complaints, came

#: Says what is wrong with a value: a text, False for "something", None or True for nothing. It may raise as well.
Validator = Callable[[Any], object]

C = TypeVar("C", LMStudioConfig, EncoderConfig)


def validate_config(
    config: Any,
    name: str = "config",
    *,
    required: Iterable[str] = (),
    optional: Mapping[str, Any] | None = None,
    types: Mapping[str, type | tuple[type, ...]] | None = None,
    validators: Mapping[str, Validator] | None = None,
    allow_unknown: bool = False,
) -> dict[str, Any]:
    """
    Check a mapping of settings, and fill in what it leaves out.

    Args:
        config: The settings; they are not changed.
        name: What to call them in messages.
        required: The keys that must be there.
        optional: The keys that may be there, with their defaults, which are copied and not checked.
        types: What values must be. True and False are no numbers here.
        validators: Called with the value of a key that is there and of the right type. They return None or True for a
            value that is fine, False or a text that says what it must be for one that is not; or they raise.
        allow_unknown: Let other keys pass, and keep them. Without it they are refused: a misspelt one would be
            a setting that does nothing.

    Returns:
        A new dict, in which each optional key is there.

    Raises:
        ValidationError: With everything that is wrong: ERR_VAL_MISSING_FIELD for keys, else ERR_VAL_INVALID_RANGE.
    """
    found = Complaints()
    if not isinstance(config, Mapping):
        found.add(name, f"must be a mapping of settings (got {came(config)})")
        found.finish()
    required, optional = tuple(required), optional or {}
    for key in required:
        if key not in config:
            found.add(f"{name}.{key}", "is required (got nothing)", ErrorCode.ERR_VAL_MISSING_FIELD)
    known = dict.fromkeys([*required, *optional, *(types or {}), *(validators or {})])
    for key, value in config.items():
        field = f"{name}.{key[:60] if isinstance(key, str) else came(key)}"
        if key not in known and not allow_unknown:
            hint = suggestion(came(key), known) or (f"; known here: {one_of(known)}" if known else "")
            found.add(field, f"must be a known key (got {came(key)}){hint}")
        elif (complaint := _type_complaint(value, (types or {}).get(key))) or (
            complaint := _verdict((validators or {}).get(key), value)
        ):
            found.add(field, complaint)
    found.finish()
    return {**copy.deepcopy({key: value for key, value in optional.items() if key not in config}), **config}


def _type_complaint(value: Any, wanted: type | tuple[type, ...] | None) -> str:
    if wanted is None:
        return ""
    kinds = wanted if isinstance(wanted, tuple) else (wanted,)
    if isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds or object in kinds):
        return ""
    return f"must be {one_of(kind.__name__ for kind in kinds)} (got {type(value).__name__}: {came(value)})"


def _verdict(validator: Validator | None, value: Any) -> str:
    if validator is None:
        return ""
    try:
        verdict = validator(value)
    except Exception as exc:  # noqa: BLE001 - whatever it raises, it does not take this value
        said = str(exc) or type(exc).__name__
        return f"{said} (got {came(value)})"
    if isinstance(verdict, str) and verdict:
        return f"{verdict} (got {came(value)})"
    who = getattr(validator, "__name__", "the validator")
    return f"must pass {who} (got {came(value)})" if verdict is False else ""


def validate_lm_studio_config(config: Mapping[str, Any] | LMStudioConfig) -> LMStudioConfig:
    """
    Check the settings of the ``lm_studio`` section as a policy's are checked, variables (``${NAME}``) included.

    Raises:
        PolicyError: A ValidationError with the code ERR_VAL_INVALID_POLICY, and every problem.
    """
    return _section(config, "lm_studio", LMStudioConfig)


def validate_encoder_config(config: Mapping[str, Any] | EncoderConfig) -> EncoderConfig:
    """
    Check the settings of the ``encoder`` section as a policy's are checked, variables (``${NAME}``) included.

    Raises:
        PolicyError: A ValidationError with the code ERR_VAL_INVALID_POLICY, and every problem.
    """
    return _section(config, "encoder", EncoderConfig)


def _section(config: Any, name: str, model: type[C]) -> C:
    if isinstance(config, model):
        document = _document(name, _thawed(config, name))
    elif isinstance(config, Mapping):
        interpolator = Interpolator(os.environ)
        document = without_nulls(POLICY.resolve(_document(name, config), interpolator, ()))
        if interpolator.problems:
            raise PolicyError(interpolator.problems)
    else:
        found = Complaints()
        found.add(name, f"must be a mapping of settings or a {model.__name__} (got {came(config)})")
        found.finish()
    if problems := check_effective(document):
        raise PolicyError(problems)
    policy: PolicyConfig = POLICY.freeze(document.plain())
    if problems := check_meaning(policy, document):
        raise PolicyError(problems)
    checked: C = getattr(policy, name)
    return checked


def _document(name: str, section: Any) -> Node:
    return node_from({"version": 1, name: section}, Place(f"<{name}>"))


def _thawed(config: Any, name: str) -> dict[str, Any]:
    """A config made in code, as a policy would say it."""
    kind = POLICY.child(name)
    if complaint := kind.complain(config):
        raise ValidationError(f"{name}: {complaint}")
    return {key: value.reveal() if isinstance(value, Secret) else value for key, value in kind.thaw(config).items()}
