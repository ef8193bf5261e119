"""Where settings come from: which file is nearest to the person who runs the check, and what a file builds on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath

from pixel_llm.errors import Place
from pixel_llm.policy.inheritance import Sources
from pixel_llm.policy.lint.rule import deepest, is_written, look_up
from pixel_llm.policy.loading import LoadedPolicy
from pixel_llm.policy.locating import neighbours, shipped_folder
from pixel_llm.policy.merging import merge
from pixel_llm.policy.nodes import Node, Path
from pixel_llm.policy.sections.document import POLICY
from pixel_llm.policy.sections.target import is_pattern, patterns_for

TARGET = POLICY.child("defaults")

_LAID_OVER, _OWN, _INHERITED, _SHIPPED = range(4)


def nearest(loaded: LoadedPolicy, *paths: Path) -> Path:
    """
    Of settings that are only wrong together, the one that is laid over the others.

    That is the one in the nearest file and, within it, a target's own rather than one that a
    pattern, a template or `defaults` gives it; the first of *paths* if several are equally near.
    So whoever extends a profile and breaks a rule is shown the own line, not one of a file that
    can't be changed.
    """
    written = [path for path in paths if is_written(loaded, path)] or list(paths[:1])
    return min(written, key=lambda path: _distance(loaded, path))


def is_in_own_section(loaded: LoadedPolicy, path: Path) -> bool:
    """True if what holds at *path* stands there itself, rather than in a pattern, a template or `defaults`."""
    node = look_up(loaded.document, path)
    return node is not None and deepest(loaded.written, path).place == node.place


def overrides(loaded: LoadedPolicy, place: Place, other: Place) -> bool:
    """True if *place* is in a file that is laid over that of *other*."""
    return place.file != other.file and _rank(loaded, place.file) < _rank(loaded, other.file)


def is_own(loaded: LoadedPolicy, place: Place) -> bool:
    """True if *place* is in the profile's own file, or in what is laid over it."""
    return _rank(loaded, place.file) <= _OWN


def lineage(loaded: LoadedPolicy, file: FilePath) -> set[FilePath]:
    """*file* and everything it builds on."""
    by_profile: dict[str, list[FilePath]] = {}
    for source in loaded.sources:
        by_profile.setdefault(source.stem, []).append(source)
    found: set[FilePath] = set()
    ahead = [file]
    while ahead:
        path = ahead.pop()
        if path not in found:
            found.add(path)
            ahead += [source for node in parents_of(loaded.sources[path]) for source in by_profile.get(node.value, [])]
    return found


def parents_of(source: Node) -> list[Node]:
    """The names that a file gives under `extends`."""
    extends = source.value.get("extends")
    if extends is None or extends.value is None:
        return []
    return list(extends.value) if isinstance(extends.value, list) else [extends]


def own_source(loaded: LoadedPolicy) -> Node:
    """The profile's own file, as it was written."""
    return loaded.sources[loaded.file]


def inherited(loaded: LoadedPolicy) -> Node | None:
    """What the profile's own file is laid over: all that it extends, merged; None if it extends nothing."""
    extends = own_source(loaded).value.get("extends")
    if extends is None or extends.value is None:
        return None
    sources = Sources(neighbours(loaded.file))
    # The files as they were read, but the profile says nothing by itself: what is left is inherited.
    sources.documents = {**loaded.sources, loaded.file: Node({"extends": extends}, extends.place)}
    return sources.load(loaded.file)


@dataclasses.dataclass(frozen=True, slots=True)
class Ground:
    """
    What one target stands on: what `defaults` and patterns say, and the templates that it names, by layer.

    *shifting* are the layers of which no single value can be told, since templates or short forms meet there.
    """

    below: Node | None
    templates: Node | None
    shifting: frozenset[str]


class Underneath:
    """What `defaults`, patterns and templates give to targets, before their own sections are laid over it."""

    def __init__(self, loaded: LoadedPolicy) -> None:
        self._document = loaded.written
        targets = look_up(self._document, ("targets",))
        self._targets: dict[str, Node] = {} if targets is None else targets.value
        self._patterns = [name for name in self._targets if is_pattern(name)]
        self._defaults = look_up(self._document, ("defaults",))

    def of(self, target: str) -> Ground:
        """The ground of *target*."""
        patterns = [self._targets[name] for name in patterns_for(target, self._patterns)]
        layers = [layer for layer in (self._defaults, *patterns) if layer is not None and isinstance(layer.value, dict)]
        below: Node | None = None
        for layer in layers:
            below = merge(below, layer, TARGET)
        return Ground(below, self._templates_of(target), frozenset(_shifting(layers)))

    def _templates_of(self, target: str) -> Node | None:
        node = self._targets.get(target)
        if node is None or not isinstance(node.value, dict):
            return None
        found = {layer: look_up(self._document, ("templates", layer, name)) for layer, name in _named_in(node)}
        return Node({layer: template for layer, template in found.items() if template is not None}, node.place)


def _named_in(target: Node) -> Iterator[tuple[str, str]]:
    """The layers of *target* that name a template, with its name."""
    for layer, child in target.value.items():
        if layer == "timeout":
            continue
        name = child if isinstance(child.value, str) else look_up(child, ("template",))
        if name is not None:
            yield layer, str(name.value)


def _shifting(layers: Sequence[Node]) -> Iterator[str]:
    for target in layers:
        yield from (layer for layer, _ in _named_in(target))
    if len(layers) > 1:
        yield from (layer for target in layers for layer, child in target.value.items() if isinstance(child.value, str))


def _distance(loaded: LoadedPolicy, path: Path) -> tuple[int, bool]:
    return _rank(loaded, deepest(loaded.document, path).place.file), not is_in_own_section(loaded, path)


def _rank(loaded: LoadedPolicy, file: str) -> int:
    path = FilePath(file)
    if len(loaded.sources) == 1 or path == loaded.file:
        return _OWN
    if path not in loaded.sources or path not in lineage(loaded, loaded.file):
        return _LAID_OVER
    return _SHIPPED if path.parent == shipped_folder("policies") else _INHERITED
