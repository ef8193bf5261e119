"""``extends``: from one file to its whole line of parents, merged."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from pixel_llm.errors import Place, PolicyError, Problem
from pixel_llm.policy.locating import profiles_in, shipped_folder
from pixel_llm.policy.merging import merge
from pixel_llm.policy.nodes import Node
from pixel_llm.policy.reading import read_bytes, read_file
from pixel_llm.policy.schema import check_source
from pixel_llm.policy.sections.document import POLICY, PROFILE_PATTERN
from pixel_llm.policy.suggestions import one_of, suggestion

MAX_DEPTH = 20

EXTENDS = "PL004"

_NAME = re.compile(PROFILE_PATTERN)


class Sources:
    """
    Reads and checks policy files, each once, and merges them with their parents.

    Args:
        profiles: What can be extended, by name.
        read: How files are read, where they are not all on disk.
        taken: The files that were read and checked before, by other sources that share them, with their problems.
    """

    def __init__(
        self,
        profiles: Mapping[str, Path],
        *,
        read: Callable[[Path], Node] = read_file,
        taken: dict[Path, tuple[Node, list[Problem]]] | None = None,
    ) -> None:
        self._profiles = profiles
        self._read = read
        self._taken = {} if taken is None else taken
        self.documents: dict[Path, Node] = {}
        self.problems: list[Problem] = []
        self._merged_files: dict[Path, Node] = {}
        self._heights: dict[Path, int] = {}

    def add(self, path: Path, data: bytes) -> None:
        """Take *data* for what the file at *path* holds, be it there or not."""
        self._take(path, lambda: read_bytes(data, name=str(path)))

    def load(self, path: Path) -> Node:
        """The file at *path* merged over everything it extends. Problems are collected."""
        return self._merged(path, ())

    def overlay(self, document: Node, path: Path) -> Node:
        """*document* with the file at *path* laid over it. An overlay extends nothing."""
        return self._laid_over(document, self._document(path))

    def lay_over(self, document: Node, patch: Node) -> Node:
        """*document* with sections given in code laid over it."""
        self.problems.extend(check_source(patch))
        return self._laid_over(document, patch)

    def _document(self, path: Path) -> Node:
        if path not in self.documents:
            self._take(path, lambda: self._read(path))
        return self.documents[path]

    def _take(self, path: Path, read: Callable[[], Node]) -> None:
        if path not in self._taken:
            try:
                document = read()
                self._taken[path] = document, check_source(document)
            except PolicyError as exc:  # go on with nothing in its place, to find what else is wrong
                self._taken[path] = Node({}, Place(str(path))), list(exc.problems)
        self.documents[path], problems = self._taken[path]
        self.problems.extend(problems)

    def _laid_over(self, document: Node, patch: Node) -> Node:
        if "extends" in patch.value:
            place = patch.place_of_key("extends")
            message = "what is laid over a profile extends nothing by itself"
            self.problems.append(Problem(place, "extends", message, EXTENDS))
        return merge(document, _without_extends(patch), POLICY)

    def _merged(self, path: Path, line: tuple[Path, ...]) -> Node:
        # Each file once: where parents share parents, there are many more ways up than files.
        if path not in self._merged_files:
            self._merged_files[path] = self._merge_with_parents(path, (*line, path))
        return self._merged_files[path]

    def _merge_with_parents(self, path: Path, line: tuple[Path, ...]) -> Node:
        document = self._document(path)
        base: Node | None = None
        self._heights[path] = 1
        for parent, node in _parents(document):
            parent_path = self._find(parent, node, line)
            if parent_path is not None:
                base = merge(base, self._merged(parent_path, line), POLICY)
                self._heights[path] = max(self._heights[path], self._heights[parent_path] + 1)
        return merge(base, _without_extends(document), POLICY)

    def _find(self, parent: str, node: Node, line: tuple[Path, ...]) -> Path | None:
        path = self._profiles.get(parent)
        if path is not None and path == line[-1]:  # `extends: production` in one's own production.yaml
            path = profiles_in(shipped_folder("policies")).get(parent, path)
        if path is None:
            hint = suggestion(parent, self._profiles) or f"; there are {one_of(self._profiles)}"
            self._report(node, f"there is no profile {parent!r}{hint}")
        elif path in line:
            names = [step.stem for step in (*line[line.index(path) :], path)]
            self._report(node, f"extends itself: {' → '.join(names)}")
        elif len(line) + self._heights.get(path, 1) > MAX_DEPTH:
            names = [step.stem for step in (*line, path)]
            self._report(node, f"more than {MAX_DEPTH} profiles extend each other: {' → '.join(names)}")
        else:
            return path
        return None

    def _report(self, node: Node, message: str) -> None:
        self.problems.append(Problem(node.place, "extends", message, EXTENDS))


def _parents(document: Node) -> list[tuple[str, Node]]:
    extends = document.value.get("extends")
    if extends is None:
        return []
    nodes = extends.value if isinstance(extends.value, list) else [extends]
    # What is no name at all has been reported by the schema.
    return [(node.value, node) for node in nodes if isinstance(node.value, str) and _NAME.fullmatch(node.value)]


def _without_extends(document: Node) -> Node:
    values = {key: child for key, child in document.value.items() if key != "extends"}
    return dataclasses.replace(document, value=values)
