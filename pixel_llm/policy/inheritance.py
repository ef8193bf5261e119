"""``extends``: from one file to its whole line of parents, merged."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from pixel_llm.errors import Place, PolicyError, Problem
from pixel_llm.policy.merging import merge
from pixel_llm.policy.nodes import Node
from pixel_llm.policy.reading import read_file
from pixel_llm.policy.schema import check_source
from pixel_llm.policy.suggestions import one_of, suggestion

MAX_DEPTH = 20


class Sources:
    """Reads and checks policy files, each once, and merges them with their parents."""

    def __init__(self, profiles: Mapping[str, Path]) -> None:
        self._profiles = profiles
        self._read: dict[Path, Node] = {}
        self.problems: list[Problem] = []

    def load(self, path: Path) -> Node:
        """The file at *path* merged over everything it extends. Problems are collected."""
        return self._merged(path, ())

    def check(self, document: Node) -> Node:
        """Note the problems of a source document; give it back without its wrong parts being mended."""
        self.problems.extend(check_source(document))
        return document

    def _document(self, path: Path) -> Node:
        if path not in self._read:
            try:
                self._read[path] = self.check(read_file(path))
            except PolicyError as exc:  # go on with nothing in its place, to find what else is wrong
                self.problems.extend(exc.problems)
                self._read[path] = Node({}, Place(str(path)))
        return self._read[path]

    def _merged(self, path: Path, line: tuple[Path, ...]) -> Node:
        document = self._document(path)
        base: Node | None = None
        for parent, node in _parents(document):
            parent_path = self._find(parent, node, (*line, path))
            if parent_path is not None:
                base = merge(base, self._merged(parent_path, (*line, path)))
        return merge(base, _without_extends(document))

    def _find(self, parent: str, node: Node, line: tuple[Path, ...]) -> Path | None:
        path = self._profiles.get(parent)
        if path is None:
            hint = suggestion(parent, self._profiles) or f"; there are {one_of(self._profiles)}"
            self._report(node, f"there is no profile {parent!r}{hint}")
        elif path in line:
            names = [step.stem for step in (*line[line.index(path) :], path)]
            self._report(node, f"extends itself: {' → '.join(names)}")
        elif len(line) >= MAX_DEPTH:
            self._report(node, f"more than {MAX_DEPTH} profiles extend each other")
        else:
            return path
        return None

    def _report(self, node: Node, message: str) -> None:
        self.problems.append(Problem(node.place, "extends", message))


def _parents(document: Node) -> list[tuple[str, Node]]:
    extends = document.value.get("extends")
    if extends is None:
        return []
    nodes = extends.value if isinstance(extends.value, list) else [extends]
    return [(node.value, node) for node in nodes if isinstance(node.value, str)]


def _without_extends(document: Node) -> Node:
    values = {key: child for key, child in document.value.items() if key != "extends"}
    return dataclasses.replace(document, value=values)
