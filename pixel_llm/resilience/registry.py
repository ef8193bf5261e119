"""
Functions by name: how a policy uses code of the program without ever naming code.

A policy file may be written by somebody who must not run code of his own, so it says only
names. What they stand for is registered by the program, or by a package's entry point in
the group ``pixel_llm.functions``, which is loaded when a policy first names it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, TypeVar, overload

from pixel_llm.errors import Problem, ValidationError
from pixel_llm.policy import LoadedPolicy
from pixel_llm.policy.functions import function_names
from pixel_llm.policy.kinds import FUNCTION_PATTERN
from pixel_llm.policy.nodes import format_path
from pixel_llm.policy.sections.document import POLICY
from pixel_llm.policy.suggestions import one_of, suggestion

F = TypeVar("F", bound=Callable[..., Any])

#: The group of entry points whose names policies may use.
ENTRY_POINT_GROUP = "pixel_llm.functions"

#: Finds the function of a name; raises ValidationError if there is none.
FindFunction = Callable[[str], Callable[..., Any]]

_functions: dict[str, Callable[..., Any]] = {}
_lock = threading.Lock()

#: None may be given for a function by mistake; then it must not stand for a decorator.
_NOT_GIVEN: Any = object()


@overload
def register_function(name: str) -> Callable[[F], F]: ...
@overload
def register_function(name: str, function: F) -> F: ...
def register_function(name: str, function: Any = _NOT_GIVEN) -> Any:
    """
    Let policies use *function* by *name*; without *function*, a decorator.

    Register before ``load_policies``, which looks every name up. A name that is registered again stands
    for the later function, in policies that are loaded from then on. Safe for concurrent use.

    Raises:
        ValidationError: If the name or the function can't be one.
    """
    if function is not _NOT_GIVEN:
        _check(name, function)
        _functions[name] = function
        return function
    if not isinstance(name, str):
        raise ValidationError(f'register_function needs a name: @register_function("apologise") (got {name!r})')

    def decorate(function: F) -> F:
        return register_function(name, function)

    return decorate


def find_function(name: str) -> Callable[..., Any]:
    """
    The function that is registered under *name*, or that an entry point of this name gives.

    Raises:
        ValidationError: If there is none, or its entry point can't be loaded.
    """
    return _find(name, {})


def finder(functions: Mapping[str, Callable[..., Any]] | None = None) -> FindFunction:
    """
    :func:`find_function`, with *functions* laid over what is registered.

    Raises:
        ValidationError: If a name or a function in *functions* can't be one.
    """
    if functions is not None and not isinstance(functions, Mapping):
        raise ValidationError(f"functions must be a mapping from names to functions (got {type(functions).__name__})")
    if not functions:
        return find_function
    own = dict(functions)
    for name, function in own.items():
        _check(name, function)

    def find(name: str) -> Callable[..., Any]:
        return _find(name, own)

    return find


def check_functions(loaded: LoadedPolicy, find: FindFunction) -> list[Problem]:
    """The names in a policy for which *find* has no function, each with its place."""
    problems: list[Problem] = []
    for path, node in function_names(POLICY, loaded.document):
        try:
            find(node.value)
        except ValidationError as error:
            problems.append(Problem(node.place, format_path(path), error.message))
    return problems


def _check(name: object, function: object) -> None:
    if not isinstance(name, str) or not re.fullmatch(FUNCTION_PATTERN, name):
        raise ValidationError(
            f"the name of a function must be letters, digits and _.- beginning with a letter (got {name!r})"
        )
    if not callable(function):
        raise ValidationError(f"the function {name!r} must be something to call (got {function!r})")


def _find(name: str, own: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    function = own.get(name) or _functions.get(name) or _from_entry_point(name)
    if function is not None:
        return function
    known = sorted({*own, *_functions, *metadata.entry_points(group=ENTRY_POINT_GROUP).names})
    there = f"; there are {one_of(known)}" if known else ""
    hint = suggestion(name, known) or f"{there}; register it with pixel_llm.register_function before loading"
    raise ValidationError(f"no function is registered as {name!r}{hint}")


def _from_entry_point(name: str) -> Callable[..., Any] | None:
    for entry_point in metadata.entry_points(group=ENTRY_POINT_GROUP, name=name):
        try:
            function = entry_point.load()
            _check(name, function)
        except Exception as error:
            raise ValidationError(
                f"the entry point {name} = {entry_point.value} can't be loaded: {type(error).__name__}: {error}"
            ) from error
        with _lock:  # two that load at once give the same function
            return _functions.setdefault(name, function)
    return None
