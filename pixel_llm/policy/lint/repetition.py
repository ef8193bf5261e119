"""
Rules about what a file says without changing anything: values that hold anyway, empty maps, nulls.

What would hold without a value is what the file extends, else templates, patterns and `defaults`,
else the language's own default. Lists are taken whole, since they replace each other. Where that
can't be told for sure, nothing is reported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from enum import Enum
from functools import partial
from pathlib import Path as FilePath
from typing import Any

from pixel_llm.errors import ProblemSeverity
from pixel_llm.policy.kinds import Kind, TextOr
from pixel_llm.policy.lint.origins import Underneath, inherited, own_source, parents_of
from pixel_llm.policy.lint.rule import Finding, Rule
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.nodes import Node, Path
from pixel_llm.policy.sections.document import POLICY
from pixel_llm.policy.sections.target import is_pattern, is_system_name
from pixel_llm.policy.settings import Section

#: Every file says these for itself.
_NOT_INHERITED = frozenset({"version", "extends", "description"})

_NO_DEFAULT = object()

#: An empty section that is not there by default is there with its defaults; of these, that is nothing either.
_SAY_NOTHING_BY_DEFAULT = ("timeout", "window")


class _Useless(Enum):
    REPEATS = "repeats"
    DEFAULT = "default"
    EMPTY = "empty"
    REMOVES_NOTHING = "removes nothing"


@dataclasses.dataclass(frozen=True, slots=True)
class _Spot:
    """
    A key of the profile's own file, with what is laid under it.

    *is_short*: it is written in its short form. *shifts*: what would hold without it can't be told;
    *shifting* are the keys below it of which that is so.
    """

    path: Path
    kind: Kind
    own: Node
    is_short: bool = False
    parent: Node | None = None
    below: Node | None = None
    template: Node | None = None
    shifts: bool = False
    shifting: frozenset[str] = frozenset()
    default: Any = _NO_DEFAULT

    @property
    def bases(self) -> list[Node]:
        """
        What may hold without it, short of the language's default; a null among them if something was removed.

        Templates and `defaults` may both have a say, so all of them must agree. A short form replaces whole maps.
        """
        if self.parent is not None and not self.is_short:
            return [self.parent]
        return [node for node in (self.parent, self.template, self.below) if node is not None]

    @property
    def replaces(self) -> bool:
        """True if it is a short form over something: nothing of a map below it is left, as with any scalar."""
        return self.is_short and bool(self.bases)


class _Walk:
    """Goes through the profile's own file once."""

    def __init__(self, loaded: LoadedPolicy) -> None:
        self._file = str(loaded.file)
        self._own = own_source(loaded)
        self._parents = inherited(loaded)
        self._underneath = Underneath(loaded)
        #: What `defaults` and patterns say may lie over what a target's template says.
        self._shared_shifts = bool(loaded.used_templates)
        #: A profile that extends nothing may spell everything out, for its readers.
        self._says_defaults = not parents_of(self._own)

    def findings(self) -> Iterator[tuple[_Useless, Finding]]:
        """Everything that is said without changing anything."""
        for spot in self._children(_Spot((), POLICY, self._own, parent=self._parents)):
            if spot.path[0] not in _NOT_INHERITED:
                yield from self._look_at(spot)

    def _look_at(self, spot: _Spot) -> Iterator[tuple[_Useless, Finding]]:
        found = self._judge(spot)
        if found is not None:
            yield found, Finding(spot.path, self._message(found, spot), spot.own.place)
        elif isinstance(spot.own.value, dict) and not spot.replaces:
            for child in self._children(spot):
                yield from self._look_at(child)

    def _judge(self, spot: _Spot) -> _Useless | None:
        value, bases = spot.own.value, spot.bases
        told = not spot.shifts or (spot.parent is not None and not spot.is_short)
        if value is None:
            return _Useless.REMOVES_NOTHING if told and all(base.value is None for base in bases) else None
        if isinstance(value, dict) and not spot.replaces:
            return _Useless.EMPTY if not value and not _means_something(spot) else None
        if bases:
            return _Useless.REPEATS if told and all(_same(spot.kind, spot.own, base) for base in bases) else None
        if told and not self._says_defaults and _is_default(spot.kind, spot.own, spot.default):
            return _Useless.DEFAULT
        return None

    def _children(self, spot: _Spot) -> Iterator[_Spot]:
        fields = _fields(spot.kind)
        for key, child in spot.own.value.items():
            kind = spot.kind.child(key)
            found = _Spot(
                (*spot.path, key),
                kind,
                kind.long_form(child),
                not isinstance(child.value, dict | None),
                _child(kind, spot.parent, key),
                _child(kind, spot.below, key),
                _child(kind, spot.template, key),
                spot.shifts or key in spot.shifting,
                default=fields[key].default if key in fields else _NO_DEFAULT,
            )
            yield self._on_its_ground(found) if len(found.path) <= 2 else found

    def _on_its_ground(self, spot: _Spot) -> _Spot:
        match spot.path:
            case ("templates",):
                return dataclasses.replace(spot, shifts=True)  # laid over or under whatever its targets have
            case ("defaults",):
                return dataclasses.replace(spot, shifts=self._shared_shifts)
            case ("targets", name):
                ground = self._underneath.of(str(name))
                shifts = self._shared_shifts and is_pattern(str(name))
                return dataclasses.replace(
                    spot, below=ground.below, template=ground.templates, shifts=shifts, shifting=ground.shifting
                )
        return spot

    def _message(self, found: _Useless, spot: _Spot) -> str:
        match found:
            case _Useless.REPEATS:
                place = spot.bases[0].place
                here = f"line {place.line} of this file" if place.file == self._file else FilePath(place.file).stem
                return f"{here} says the same already: leave it out"
            case _Useless.DEFAULT:
                return "is the language's default anyway: leave it out"
            case _Useless.EMPTY:
                return "is empty and changes nothing: leave it out"
            case _:  # REMOVES_NOTHING
                return "null removes what is inherited, and nothing is inherited here: leave it out"


def _child(kind: Kind, node: Node | None, key: str) -> Node | None:
    if node is None or not isinstance(node.value, dict) or key not in node.value:
        return None
    return kind.long_form(node.value[key])


def _fields(kind: Kind) -> dict[str, Any]:
    section = kind.long if isinstance(kind, TextOr) else kind
    return section.fields() if isinstance(section, Section) else {}


def _means_something(spot: _Spot) -> bool:
    """True if an empty map says something: a section with its defaults, or a target that the program may wrap."""
    match spot.path:
        case ("targets", name):
            return not is_system_name(str(name)) and (spot.parent is None or spot.parent.value is None)
        case ("templates", _, _) | ("retry_budgets", _):
            named = True
        case _:
            named = spot.default is None and spot.path[-1] not in _SAY_NOTHING_BY_DEFAULT
    return named and (spot.shifts or not any(base.value is not None for base in spot.bases))


def _same(kind: Kind, own: Node, other: Node) -> bool:
    mine, theirs = own.plain(), other.plain()
    if repr(mine) == repr(theirs):  # repr, because to Python 1 is True
        return True
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return list(mine) == list(theirs) and all(
            _same(kind.child(key), own.value[key], other.value[key]) for key in mine
        )
    return _is_value(kind, mine) and _is_value(kind, theirs) and repr(kind.freeze(mine)) == repr(kind.freeze(theirs))


def _is_default(kind: Kind, own: Node, default: Any) -> bool:
    value = own.plain()
    return default is not None and _is_value(kind, value) and bool(kind.freeze(value) == default)


def _is_value(kind: Kind, value: Any) -> bool:
    """True for a value or a list of names that is already what it will be: no variable, no name of a template."""
    if isinstance(value, list):
        return all(_is_value(kind, item) and not isinstance(item, list) for item in value)
    return not isinstance(value, dict | None) and not isinstance(kind, TextOr) and "${" not in str(value)


class _OneWalk:
    """Four rules ask for the same walk, one after the other. Safe for concurrent use: at worst one walks again."""

    def __init__(self) -> None:
        self._latest: tuple[LoadedPolicy, list[tuple[_Useless, Finding]]] | None = None

    def check(self, wanted: _Useless, loaded: LoadedPolicy) -> Iterator[Finding]:
        """The findings of one sort."""
        latest = self._latest
        if latest is None or latest[0] is not loaded:
            latest = self._latest = loaded, list(_Walk(loaded).findings())
        yield from (finding for useless, finding in latest[1] if useless is wanted)


_check = _OneWalk().check


RULES = (
    Rule(
        id="PL503",
        name="A value that repeats what is inherited",
        severity=ProblemSeverity.NOTE,
        why="It looks like a decision of this file, hides what the file really changes, and stays behind when the "
        "value below it is changed.",
        mend="Leave it out; or, if it must stay when the other changes, say so in an ignore comment.",
        bad="defaults: {timeout: 10s}\ntargets: {billing.charge: {timeout: 10s}}",
        good="defaults: {timeout: 10s}\ntargets: {billing.charge: {timeout: 5s}}",
        check=partial(_check, _Useless.REPEATS),
    ),
    Rule(
        id="PL504",
        name="A value that repeats the language's default",
        severity=ProblemSeverity.NOTE,
        why="A profile that extends another should say what it changes, and this changes nothing. (A profile that "
        "extends nothing may spell everything out, for its readers.)",
        mend="Leave it out; or, if it must be said, give the reason in an ignore comment.",
        bad="extends: basic\nlogging: {console: false}",
        good="extends: basic\nlogging: {console: true}",
        check=partial(_check, _Useless.DEFAULT),
    ),
    Rule(
        id="PL505",
        name="An empty section that changes nothing",
        severity=ProblemSeverity.NOTE,
        why="Maps are merged, so an empty one neither adds nor removes anything. Only where a section is not there by "
        "itself, such as `retry: {}` or `bulkhead: {}`, it means something: that section with its defaults.",
        mend="Leave it out; `null` removes what is inherited.",
        bad="targets: {billing.charge: {timeout: {}, deadline: 5s}}",
        good="targets: {billing.charge: {timeout: {attempt: 1s}, deadline: 5s}}",
        check=partial(_check, _Useless.EMPTY),
    ),
    Rule(
        id="PL507",
        name="A null that removes nothing",
        severity=ProblemSeverity.WARNING,
        why="`null` takes away what a parent, a pattern, a template or `defaults` gives. Here none gives anything, so "
        "the name is likely misspelt or the parent has changed.",
        mend="Leave it out, or mend the name.",
        bad="extends: basic\ntargets: {encoder.load: {retry: null}}",
        good="extends: basic\ntargets: {encoder.forward: {retry: null}}",
        check=partial(_check, _Useless.REMOVES_NOTHING),
    ),
)
