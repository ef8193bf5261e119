"""Every mutant of a set of files."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import MutationVisitor
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

#: What is mutated.
ROOMS = ("pixel_llm/policy", "pixel_llm/resilience")


@dataclass(frozen=True, slots=True)
class Mutant:
    """
    One changed line, or a few.

    Attributes:
        file: The file, from the root of the checkout.
        line: The first line that is changed.
        last_line: The last one.
        number: Which of the file's mutants it is.
        before: What stood there, without indentation.
        after: What stands there now.
        place: The function that it lies in; empty for what runs when the module is imported.
        digest: Of the file's text, before it is changed.
    """

    file: str
    line: int
    last_line: int
    number: int
    before: str
    after: str
    place: str
    digest: str

    @property
    def name(self) -> str:
        """What it is called in results: the same as long as the file does not change."""
        return f"{self.file}:{self.digest}:{self.number}"


class _Visitor(MutationVisitor):
    """Mutmut's, which goes into decorated functions as well, and notes where each mutation lies."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.places: list[tuple[int, int, str]] = []
        self._functions: list[str] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self._functions.append(node.name.value if isinstance(node, cst.FunctionDef) else f"{node.name.value}:")
        known = len(self.mutations)
        goes_on = super().on_visit(node)
        if len(self.mutations) > known:
            position = self.get_metadata(PositionProvider, node, None)
            lines = (position.start.line, position.end.line) if position else (0, 0)
            in_function = any(not name.endswith(":") for name in self._functions)
            place = ".".join(name.rstrip(":") for name in self._functions) if in_function else ""
            self.places += [(*lines, place)] * (len(self.mutations) - known)
        return goes_on

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.FunctionDef | cst.ClassDef):
            self._functions.pop()
        super().on_leave(original_node)

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef) and node.decorators:
            return False
        return super()._skip_node_and_children(node)


def files(root: Path) -> list[str]:
    """The files that are mutated, from the root."""
    return sorted(str(path.relative_to(root)) for room in ROOMS for path in (root / room).rglob("*.py"))


class Mutations:
    """The mutants of one file. What they look like is worked out when it is asked for, since that takes long."""

    def __init__(self, root: Path, file: str) -> None:
        self._file = file
        self._code = (root / file).read_text("utf-8")
        self._digest = hashlib.sha1(self._code.encode(), usedforsecurity=False).hexdigest()[:10]
        visitor = _Visitor(mutation_operators, IgnoredCode(set(), set(), set()), None)
        self._module = MetadataWrapper(cst.parse_module(self._code)).visit(visitor)
        self._found = list(zip(visitor.mutations, visitor.places, strict=True))

    def __len__(self) -> int:
        return len(self._found)

    def make(self, number: int) -> tuple[Mutant, str]:
        """Mutant *number*, and the whole text of the changed file."""
        mutation, (line, last_line, place) = self._found[number]
        text = self._module.deep_replace(mutation.original_node, mutation.mutated_node).code  # type: ignore[arg-type]
        before, after = _change(self._code.splitlines(), text.splitlines())
        return Mutant(self._file, line, last_line, number, before, after, place, self._digest), text


def sample(root: Path, seed: int, size: int) -> tuple[list[tuple[Mutant, str]], Counter[str]]:
    """*size* mutants drawn by *seed*, with the texts of the changed files; and how many there are in each room."""
    found = {file: Mutations(root, file) for file in files(root)}
    every = [(file, number) for file, mutations in found.items() for number in range(len(mutations))]
    drawn = Random(seed).sample(every, min(size, len(every)))
    rooms = Counter("/".join(file.split("/")[:2]) for file, _ in every)
    return [found[file].make(number) for file, number in drawn], rooms


def _change(before: list[str], after: list[str]) -> tuple[str, str]:
    """The lines that differ, without indentation."""
    start = next((n for n, (old, new) in enumerate(zip(before, after, strict=False)) if old != new), 0)
    end = 0
    while end < min(len(before), len(after)) - start and before[len(before) - 1 - end] == after[len(after) - 1 - end]:
        end += 1
    cut = [" ".join(line.strip() for line in part[start : len(part) - end]) for part in (before, after)]
    return cut[0], cut[1]
