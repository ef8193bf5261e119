"""
Scripts for the scripted LM Studio, written in YAML.

A step is a name, or a name with its fields; ``times`` repeats it::

    steps:
      - hang
      - status: {status: 503, retry_after: 2, times: 3}
    then: {answer: {text: A cat.}}
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixel_llm.errors import Place, PolicyError, Problem, ValidationError
from pixel_llm.policy.durations import duration_complaint, parse_duration
from pixel_llm.policy.nodes import Node, format_path
from pixel_llm.policy.reading import read_file
from pixel_llm.policy.suggestions import one_of, suggestion
from pixel_llm.testing.steps import (
    DEFAULT_MODELS,
    STEP_TYPES,
    Answer,
    Seconds,
    Step,
    complain,
    complain_of_last,
    field_types,
)

_MOST_TIMES = 10_000
_KEYS = ("models", "loaded", "api_key", "check_model", "own_api", "steps", "then")


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a script file says, ready for :class:`ScriptedLMStudio`; repeated steps are written out."""

    steps: tuple[Step, ...] = ()
    then: Step = field(default_factory=Answer)
    models: tuple[str, ...] = DEFAULT_MODELS
    loaded: tuple[str, ...] | None = None
    api_key: str | None = None
    check_model: bool = False
    own_api: bool = True


def load_script(path: str | Path) -> Script:
    """
    Read the script at *path*.

    Raises:
        PolicyError: If anything is wrong with it; lists every problem with its place.
    """
    return _Reading().script(read_file(Path(path)))


class _Reading:
    """Turns the tree of one file into a script, collecting problems on the way."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []

    def script(self, root: Node) -> Script:
        self._check_keys(root, _KEYS, "key", ())
        found: dict[str, Any] = {}
        for name in ("models", "loaded"):
            if name in root.value:
                found[name] = self._models(root.value[name], name)
        for name, kind, what in (
            ("api_key", str, "a text"),
            ("check_model", bool, "true or false"),
            ("own_api", bool, "true or false"),
        ):
            if name in root.value:
                found[name] = self._plain(root.value[name], name, kind, what)
        if "steps" in root.value:
            found["steps"] = self._steps(root.value["steps"])
        if "then" in root.value:
            found["then"] = self._last(root.value["then"])
        if self._problems:
            raise PolicyError(self._problems)
        return Script(**found)

    def _models(self, node: Node, key: str) -> tuple[str, ...]:
        names = node.plain()
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            self._report(node.place, (key,), f"must be a list of model names (got {names!r})")
            return ()
        return tuple(names)

    def _plain(self, node: Node, key: str, kind: type, what: str) -> Any:
        value = node.plain()
        if not isinstance(value, kind) or value == "":
            self._report(node.place, (key,), f"must be {what} (got {value!r})")
        return value

    def _steps(self, node: Node) -> tuple[Step, ...]:
        if not isinstance(node.value, list):
            self._report(node.place, ("steps",), f"must be a list of steps (got {node.plain()!r})")
            return ()
        return tuple(step for index, item in enumerate(node.value) for step in self._step(item, ("steps", index)))

    def _last(self, node: Node) -> Step | None:
        steps = self._step(node, ("then",))
        if len(steps) > 1:
            self._report(node.place, ("then",), "takes no times: it serves for ever")
        elif steps and (complaint := complain_of_last(steps[0])):
            self._report(node.place, ("then",), complaint)
        return steps[0] if steps else None

    def _step(self, node: Node, path: tuple[str | int, ...]) -> list[Step]:
        """The step at *node*, as often as it says; nothing if it is wrong."""
        named = isinstance(node.value, dict) and len(node.value) == 1
        if not named and not isinstance(node.value, str):
            message = f"must be one step's name, its fields below it (got {node.plain()!r})"
            self._report(node.place, path, message)
            return []
        name = next(iter(node.value)) if named else node.value
        if name not in STEP_TYPES:
            hint = suggestion(name, STEP_TYPES) or f"; known here: {one_of(STEP_TYPES)}"
            self._report(node.place_of_key(name), path, f"unknown step {name!r}{hint}")
            return []
        fields = node.value[name] if named else Node({}, node.place)
        return self._build(STEP_TYPES[name], fields, (*path, name), node.place_of_key(name))

    def _build(self, step_type: type[Step], fields: Node, path: tuple[str | int, ...], place: Place) -> list[Step]:
        types = field_types(step_type)
        if fields.value is None:
            fields = Node({}, fields.place)
        if not isinstance(fields.value, dict):
            self._report(fields.place, path, f"must be a mapping of fields (got {fields.plain()!r})")
            return []
        before = len(self._problems)
        self._check_keys(fields, (*types, "times"), "field", path)
        values = {
            name: self._field(child, types[name], (*path, name))
            for name, child in fields.value.items()
            if name in types
        }
        times = self._times(fields.value["times"], (*path, "times")) if "times" in fields.value else 1
        if len(self._problems) > before:
            return []
        try:
            return [step_type(**values)] * times
        except ValidationError as exc:
            self._report(place, path, exc.message)
            return []

    def _field(self, node: Node, hint: Any, path: tuple[str | int, ...]) -> Any:
        value = node.plain()
        if hint == Seconds:
            try:
                value = parse_duration(value if isinstance(value, str) else "")
            except ValueError:
                self._report(node.place, path, duration_complaint(node.plain()))
                return None
        if complaint := complain(value, hint):
            self._report(node.place, path, complaint)
        return value

    def _times(self, node: Node, path: tuple[str | int, ...]) -> int:
        value = node.value
        if type(value) is int and 1 <= value <= _MOST_TIMES:
            return value
        self._report(node.place, path, f"must be a whole number from 1 to {_MOST_TIMES} (got {node.plain()!r})")
        return 1

    def _check_keys(self, node: Node, known: Iterable[str], what: str, path: tuple[str | int, ...]) -> None:
        known = tuple(known)
        for key in node.value:
            if key not in known:
                hint = suggestion(key, known) or f"; known here: {one_of(known)}"
                self._report(node.place_of_key(key), (*path, key), f"unknown {what} {key!r}{hint}")

    def _report(self, place: Place, path: tuple[str | int, ...], message: str) -> None:
        self._problems.append(Problem(place, format_path(path), message))
